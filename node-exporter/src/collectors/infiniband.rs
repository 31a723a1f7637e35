use std::path::Path;
use std::sync::Arc;

use common::metrics::Page;
use model::MetricType;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, absent, attribute, names, names_or_none, number};
use crate::options::{Filter, Flag, Settings};

pub(super) const REGISTRATION: Registration = Registration {
    name: "infiniband",
    default: true,
    flags: &[
        Flag::value(
            "collector.infiniband.device-include",
            "",
            "Regexp of infiniband devices to include (mutually exclusive to device-exclude).",
        ),
        Flag::value(
            "collector.infiniband.device-exclude",
            "",
            "Regexp of infiniband devices to exclude (mutually exclusive to device-include).",
        ),
    ],
    build,
};

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    let filter =
        settings.filter(["collector.infiniband.device-include", ""], ["collector.infiniband.device-exclude", ""])?;
    Ok(Box::new(Infiniband { paths: settings.paths.clone(), filter }))
}

struct Infiniband {
    paths: Arc<Paths>,
    filter: Filter,
}

/// Folder and file of a port, metric after `node_infiniband_`, factor and help. Data is counted in words of four bytes.
const COUNTERS: [(&str, &str, &str, f64, &str); 60] = [
    (
        "counters",
        "link_downed",
        "link_downed",
        1.0,
        "Number of times the link failed to recover from an error state and went down",
    ),
    (
        "counters",
        "link_error_recovery",
        "link_error_recovery",
        1.0,
        "Number of times the link successfully recovered from an error state",
    ),
    (
        "counters",
        "multicast_rcv_packets",
        "multicast_packets_received",
        1.0,
        "Number of multicast packets received (including errors)",
    ),
    (
        "counters",
        "multicast_xmit_packets",
        "multicast_packets_transmitted",
        1.0,
        "Number of multicast packets transmitted (including errors)",
    ),
    (
        "counters",
        "port_rcv_constraint_errors",
        "port_constraint_errors_received",
        1.0,
        "Number of packets received on the switch physical port that are discarded",
    ),
    (
        "counters",
        "port_xmit_constraint_errors",
        "port_constraint_errors_transmitted",
        1.0,
        "Number of packets not transmitted from the switch physical port",
    ),
    ("counters", "port_rcv_data", "port_data_received_bytes", 4.0, "Number of data octets received on all links"),
    (
        "counters",
        "port_xmit_data",
        "port_data_transmitted_bytes",
        4.0,
        "Number of data octets transmitted on all links",
    ),
    (
        "counters",
        "port_rcv_discards",
        "port_discards_received",
        1.0,
        "Number of inbound packets discarded by the port because the port is down or congested",
    ),
    (
        "counters",
        "port_xmit_discards",
        "port_discards_transmitted",
        1.0,
        "Number of outbound packets discarded by the port because the port is down or congested",
    ),
    (
        "counters",
        "port_rcv_errors",
        "port_errors_received",
        1.0,
        "Number of packets containing an error that were received on this port",
    ),
    (
        "counters",
        "port_rcv_packets",
        "port_packets_received",
        1.0,
        "Number of packets received on all VLs by this port (including errors)",
    ),
    (
        "counters",
        "port_xmit_packets",
        "port_packets_transmitted",
        1.0,
        "Number of packets transmitted on all VLs from this port (including errors)",
    ),
    (
        "counters",
        "port_xmit_wait",
        "port_transmit_wait",
        1.0,
        "Number of ticks during which the port had data to transmit but no data was sent during the entire tick",
    ),
    (
        "counters",
        "unicast_rcv_packets",
        "unicast_packets_received",
        1.0,
        "Number of unicast packets received (including errors)",
    ),
    (
        "counters",
        "unicast_xmit_packets",
        "unicast_packets_transmitted",
        1.0,
        "Number of unicast packets transmitted (including errors)",
    ),
    (
        "counters",
        "port_rcv_remote_physical_errors",
        "port_receive_remote_physical_errors",
        1.0,
        "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.",
    ),
    (
        "counters",
        "port_rcv_switch_relay_errors",
        "port_receive_switch_relay_errors",
        1.0,
        "Number of packets that could not be forwarded by the switch.",
    ),
    (
        "counters",
        "symbol_error",
        "symbol_error",
        1.0,
        "Number of minor link errors detected on one or more physical lanes.",
    ),
    (
        "counters",
        "VL15_dropped",
        "vl15_dropped",
        1.0,
        "Number of incoming VL15 packets dropped due to resource limitations.",
    ),
    (
        "counters",
        "excessive_buffer_overrun_errors",
        "excessive_buffer_overrun_errors",
        1.0,
        "Number of times that OverrunErrors consecutive flow control update periods occurred, each having at least one overrun error.",
    ),
    (
        "counters",
        "local_link_integrity_errors",
        "local_link_integrity_errors",
        1.0,
        "Number of times that the count of local physical errors exceeded the threshold specified by LocalPhyErrors.",
    ),
    (
        "counters_ext",
        "port_multicast_rcv_packets",
        "legacy_multicast_packets_received",
        1.0,
        "Number of multicast packets received",
    ),
    (
        "counters_ext",
        "port_multicast_xmit_packets",
        "legacy_multicast_packets_transmitted",
        1.0,
        "Number of multicast packets transmitted",
    ),
    (
        "counters_ext",
        "port_rcv_data_64",
        "legacy_data_received_bytes",
        4.0,
        "Number of data octets received on all links",
    ),
    (
        "counters_ext",
        "port_rcv_packets_64",
        "legacy_packets_received",
        1.0,
        "Number of data packets received on all links",
    ),
    (
        "counters_ext",
        "port_unicast_rcv_packets",
        "legacy_unicast_packets_received",
        1.0,
        "Number of unicast packets received",
    ),
    (
        "counters_ext",
        "port_unicast_xmit_packets",
        "legacy_unicast_packets_transmitted",
        1.0,
        "Number of unicast packets transmitted",
    ),
    (
        "counters_ext",
        "port_xmit_data_64",
        "legacy_data_transmitted_bytes",
        4.0,
        "Number of data octets transmitted on all links",
    ),
    (
        "counters_ext",
        "port_xmit_packets_64",
        "legacy_packets_transmitted",
        1.0,
        "Number of data packets received on all links",
    ),
    (
        "hw_counters",
        "duplicate_request",
        "duplicate_requests_packets",
        1.0,
        "The number of received packets. A duplicate request is a request that had been previously executed.",
    ),
    (
        "hw_counters",
        "implied_nak_seq_err",
        "implied_nak_seq_errors",
        1.0,
        "The number of time the requested decided an ACK. with a PSN larger than the expected PSN for an RDMA read or response.",
    ),
    (
        "hw_counters",
        "lifespan",
        "lifespan_seconds",
        1.0,
        "The maximum period in ms which defines the aging of the counter reads. Two consecutive reads within this period might return the same values.",
    ),
    (
        "hw_counters",
        "local_ack_timeout_err",
        "local_ack_timeout_errors",
        1.0,
        "The number of times QP's ack timer expired for RC, XRC, DCT QPs at the sender side. The QP retry limit was not exceed, therefore it is still recoverable error.",
    ),
    (
        "hw_counters",
        "np_cnp_sent",
        "np_cnp_packets_sent",
        1.0,
        "The number of CNP packets sent by the Notification Point when it noticed congestion experienced in the RoCEv2 IP header (ECN bits).",
    ),
    (
        "hw_counters",
        "np_ecn_marked_roce_packets",
        "np_ecn_marked_roce_packets_received",
        1.0,
        "The number of RoCEv2 packets received by the notification point which were marked for experiencing the congestion (ECN bits where '11' on the ingress RoCE traffic).",
    ),
    (
        "hw_counters",
        "out_of_buffer",
        "out_of_buffer_drops",
        1.0,
        "The number of drops occurred due to lack of WQE for the associated QPs.",
    ),
    (
        "hw_counters",
        "out_of_sequence",
        "out_of_sequence_packets_received",
        1.0,
        "The number of out of sequence packets received.",
    ),
    (
        "hw_counters",
        "packet_seq_err",
        "packet_sequence_errors",
        1.0,
        "The number of received NAK sequence error packets. The QP retry limit was not exceeded.",
    ),
    (
        "hw_counters",
        "req_cqe_error",
        "req_cqes_errors",
        1.0,
        "The number of times requester detected CQEs completed with errors.",
    ),
    (
        "hw_counters",
        "req_cqe_flush_error",
        "req_cqes_flush_errors",
        1.0,
        "The number of times requester detected CQEs completed with flushed errors.",
    ),
    (
        "hw_counters",
        "req_remote_access_errors",
        "req_remote_access_errors",
        1.0,
        "The number of times requester detected remote access errors.",
    ),
    (
        "hw_counters",
        "req_remote_invalid_request",
        "req_remote_invalid_request_errors",
        1.0,
        "The number of times requester detected remote invalid request errors.",
    ),
    (
        "hw_counters",
        "resp_cqe_error",
        "resp_cqes_errors",
        1.0,
        "The number of times responder detected CQEs completed with errors.",
    ),
    (
        "hw_counters",
        "resp_cqe_flush_error",
        "resp_cqes_flush_errors",
        1.0,
        "The number of times responder detected CQEs completed with flushed errors.",
    ),
    (
        "hw_counters",
        "resp_local_length_error",
        "resp_local_length_errors",
        1.0,
        "The number of times responder detected local length errors.",
    ),
    (
        "hw_counters",
        "resp_remote_access_errors",
        "resp_remote_access_errors",
        1.0,
        "The number of times responder detected remote access errors.",
    ),
    (
        "hw_counters",
        "rnr_nak_retry_err",
        "rnr_nak_retry_packets_received",
        1.0,
        "The number of received RNR NAK packets. The QP retry limit was not exceeded.",
    ),
    (
        "hw_counters",
        "roce_adp_retrans",
        "roce_adp_retransmits",
        1.0,
        "The number of adaptive retransmissions for RoCE traffic.",
    ),
    (
        "hw_counters",
        "roce_adp_retrans_to",
        "roce_adp_retransmits_timeout",
        1.0,
        "The number of times RoCE traffic reached timeout due to adaptive retransmission.",
    ),
    (
        "hw_counters",
        "roce_slow_restart",
        "roce_slow_restart_used",
        1.0,
        "The number of times RoCE slow restart was used.",
    ),
    (
        "hw_counters",
        "roce_slow_restart_cnps",
        "roce_slow_restart_cnps",
        1.0,
        "The number of times RoCE slow restart generated CNP packets.",
    ),
    (
        "hw_counters",
        "roce_slow_restart_trans",
        "roce_slow_restart",
        1.0,
        "The number of times RoCE slow restart changed state to slow restart.",
    ),
    (
        "hw_counters",
        "rp_cnp_handled",
        "rp_cnp_packets_handled",
        1.0,
        "The number of CNP packets handled by the Reaction Point HCA to throttle the transmission rate.",
    ),
    (
        "hw_counters",
        "rp_cnp_ignored",
        "rp_cnp_ignored_packets_received",
        1.0,
        "The number of CNP packets received and ignored by the Reaction Point HCA.",
    ),
    (
        "hw_counters",
        "rx_atomic_requests",
        "rx_atomic_requests",
        1.0,
        "The number of received ATOMIC request for the associated QPs.",
    ),
    (
        "hw_counters",
        "rx_dct_connect",
        "rx_dct_connect_requests",
        1.0,
        "The number of received connection requests for the associated DCTs.",
    ),
    (
        "hw_counters",
        "rx_icrc_encapsulated",
        "rx_icrc_encapsulated_errors",
        1.0,
        "The number of RoCE packets with ICRC errors.",
    ),
    (
        "hw_counters",
        "rx_read_requests",
        "rx_read_requests",
        1.0,
        "The number of received READ requests for the associated QPs.",
    ),
    (
        "hw_counters",
        "rx_write_requests",
        "rx_write_requests",
        1.0,
        "The number of received WRITE requests for the associated QPs.",
    ),
];

impl Collector for Infiniband {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let folder = self.paths.sys("class/infiniband");
        let devices = names(&folder).map_err(|e| absent(&folder, &e))?;
        let help = "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.";
        let info = page.family("node_infiniband_info", help, MetricType::Gauge);
        let help = "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer)";
        let state = page.family("node_infiniband_state_id", help, MetricType::Gauge);
        let help = "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: shift, 5: link up, 6: \
                    link error recover, 7: phytest)";
        let physical = page.family("node_infiniband_physical_state_id", help, MetricType::Gauge);
        let help = "Maximum signal transfer rate";
        let rate = page.family("node_infiniband_rate_bytes_per_second", help, MetricType::Gauge);
        let families = COUNTERS.map(|(_, _, name, _, help)| {
            page.family(&format!("node_infiniband_{name}_total"), help, MetricType::Counter)
        });
        for device in devices {
            if self.filter.ignores(&device) {
                continue;
            }
            let path = folder.join(&device);
            let text = |file: &str| attribute(&path.join(file)).unwrap_or_default();
            let labels = [
                ("board_id", &*text("board_id")),
                ("device", &device),
                ("firmware_version", &text("fw_ver")),
                ("hca_type", &text("hca_type")),
            ];
            page.sample(info, &labels, 1.0);
            for port in names_or_none(&path.join("ports")) {
                let path = path.join("ports").join(&port);
                let labels = [("device", device.as_str()), ("port", &port)];
                // `4: ACTIVE`
                for (family, file) in [(state, "state"), (physical, "phys_state")] {
                    if let Some(id) = leading::<f64>(&path.join(file), ':') {
                        page.sample(family, &labels, id);
                    }
                }
                // `40 Gb/sec (4X QDR)`
                if let Some(gigabits) = leading::<f64>(&path.join("rate"), ' ') {
                    page.sample(rate, &labels, gigabits * 1_000_000_000.0 / 8.0);
                }
                for (family, (folder, file, _, factor, _)) in families.iter().zip(COUNTERS) {
                    // some drivers say `N/A (no PMA)`
                    if let Some(count) = number::<f64>(&path.join(folder).join(file)) {
                        page.sample(*family, &labels, count * factor);
                    }
                }
            }
        }
        Ok(())
    }
}

fn leading<T: std::str::FromStr>(path: &Path, end: char) -> Option<T> {
    attribute(path).ok()?.split(end).next()?.trim().parse().ok()
}
