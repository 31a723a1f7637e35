//! The collectors, a file each, and their list.

use crate::collector::Registration;

/// Declares a collector that needs nothing but the paths: a tuple structure that holds them, and its registration.
macro_rules! of_paths {
    ($type:ident, $name:literal, $default:literal) => {
        pub(super) const REGISTRATION: crate::collector::Registration = crate::collector::Registration {
            name: $name,
            default: $default,
            flags: &[],
            build: |settings| Ok(Box::new($type(settings.paths.clone()))),
        };

        struct $type(Arc<Paths>);
    };
}

mod arp;
mod bcache;
mod bcachefs;
mod bonding;
mod btrfs;
mod buddyinfo;
mod cgroups;
mod conntrack;
mod cpu;
mod cpu_vulnerabilities;
mod cpufreq;
mod dbus;
mod diskstats;
mod dmi;
mod dmmultipath;
mod drbd;
mod drm;
mod edac;
mod entropy;
mod ethtool;
mod fibrechannel;
mod filefd;
mod filesystem;
#[cfg(test)]
mod fixture;
mod glob;
mod hwmon;
mod infiniband;
mod interrupts;
mod ipvs;
mod kernel_hung;
mod ksmd;
mod lnstat;
mod loadavg;
mod logind;
mod mdadm;
mod meminfo;
mod meminfo_numa;
mod mountstats;
mod netclass;
mod netdev;
mod netlink;
mod netstat;
mod network_route;
mod nfs;
mod nfsd;
mod nl80211;
mod ntp;
mod nvme;
mod nvmesubsystem;
mod os;
mod pci_ids;
mod pcidevice;
mod perf;
mod powersupplyclass;
mod pressure;
mod processes;
mod qdisc;
mod rapl;
mod rtnetlink;
mod runit;
mod schedstat;
mod selinux;
mod slabinfo;
mod sntp;
mod sockstat;
mod softirqs;
mod softnet;
mod stat;
mod supervisord;
mod swap;
mod sysctl;
mod systemd;
mod tapestats;
mod tcpstat;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod unix_socket;
mod vmstat;
mod watchdog;
mod wifi;
mod xfrm;
mod xfs;
mod xmlrpc;
mod zfs;
mod zoneinfo;

/// Every collector, in order of their names.
pub(crate) const ALL: &[Registration] = &[
    arp::REGISTRATION,
    bcache::REGISTRATION,
    bcachefs::REGISTRATION,
    bonding::REGISTRATION,
    btrfs::REGISTRATION,
    buddyinfo::REGISTRATION,
    cgroups::REGISTRATION,
    conntrack::REGISTRATION,
    cpu::REGISTRATION,
    cpu_vulnerabilities::REGISTRATION,
    cpufreq::REGISTRATION,
    diskstats::REGISTRATION,
    dmi::REGISTRATION,
    dmmultipath::REGISTRATION,
    drbd::REGISTRATION,
    drm::REGISTRATION,
    edac::REGISTRATION,
    entropy::REGISTRATION,
    ethtool::REGISTRATION,
    fibrechannel::REGISTRATION,
    filefd::REGISTRATION,
    filesystem::REGISTRATION,
    hwmon::REGISTRATION,
    infiniband::REGISTRATION,
    interrupts::REGISTRATION,
    ipvs::REGISTRATION,
    kernel_hung::REGISTRATION,
    ksmd::REGISTRATION,
    lnstat::REGISTRATION,
    loadavg::REGISTRATION,
    logind::REGISTRATION,
    mdadm::REGISTRATION,
    meminfo::REGISTRATION,
    meminfo_numa::REGISTRATION,
    mountstats::REGISTRATION,
    netclass::REGISTRATION,
    netdev::REGISTRATION,
    netstat::REGISTRATION,
    network_route::REGISTRATION,
    nfs::REGISTRATION,
    nfsd::REGISTRATION,
    ntp::REGISTRATION,
    nvme::REGISTRATION,
    nvmesubsystem::REGISTRATION,
    os::REGISTRATION,
    pcidevice::REGISTRATION,
    perf::REGISTRATION,
    powersupplyclass::REGISTRATION,
    pressure::REGISTRATION,
    processes::REGISTRATION,
    qdisc::REGISTRATION,
    rapl::REGISTRATION,
    runit::REGISTRATION,
    schedstat::REGISTRATION,
    selinux::REGISTRATION,
    slabinfo::REGISTRATION,
    sockstat::REGISTRATION,
    softirqs::REGISTRATION,
    softnet::REGISTRATION,
    stat::REGISTRATION,
    supervisord::REGISTRATION,
    swap::REGISTRATION,
    sysctl::REGISTRATION,
    systemd::REGISTRATION,
    tapestats::REGISTRATION,
    tcpstat::REGISTRATION,
    textfile::REGISTRATION,
    thermal_zone::REGISTRATION,
    time::REGISTRATION,
    timex::REGISTRATION,
    udp_queues::REGISTRATION,
    uname::REGISTRATION,
    vmstat::REGISTRATION,
    watchdog::REGISTRATION,
    wifi::REGISTRATION,
    xfrm::REGISTRATION,
    xfs::REGISTRATION,
    zfs::REGISTRATION,
    zoneinfo::REGISTRATION,
];
