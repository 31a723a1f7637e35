//! `blackbox`: what a probe costs, over HTTP and HTTPS, and what a thousand that wait take.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use harness::client::Connection;
use harness::encode;

use crate::benchmark::{BenchError, Benchmark, Contestant, Found, Maker, Settings};
use crate::process::{Running, free_address};
use crate::report::{Column, Report, Unit};

pub(crate) const BENCHMARK: Benchmark =
    Benchmark { name: "blackbox", about: "Processor time and memory of probes over HTTP and HTTPS.", run };

const CONTESTANTS: [Contestant; 2] = [
    Contestant { name: "blackbox-exporter", maker: Maker::Us },
    Contestant { name: "prometheus-blackbox-exporter", maker: Maker::Peer },
];

const COLUMNS: [Column; 4] = [
    Column { key: "cpu_seconds_per_probe", title: "CPU/probe", unit: Unit::Milliseconds, compared: true },
    Column { key: "rss_bytes", title: "RSS", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_anon_bytes", title: "RSS anon", unit: Unit::Megabytes, compared: true },
    Column { key: "rss_peak_bytes", title: "RSS peak", unit: Unit::Megabytes, compared: true },
];

/// Probes before the measurement, more than a history holds.
const WARM_UP: usize = 250;
/// Probes that wait at once.
const IN_FLIGHT: usize = 1000;

const CONFIG: &str = "modules:
  http_2xx: {prober: http, timeout: 30s}
  https: {prober: http, timeout: 30s, http: {tls_config: {insecure_skip_verify: true}}}
";

fn run(settings: &Settings) -> Result<Report, BenchError> {
    let mut report = Report::new("blackbox", settings.quick, &COLUMNS);
    let probes = if settings.quick { 500 } else { 3000 };
    report.work = format!(
        "{probes} probes one after another of a local server over HTTP/1.1 and over HTTPS, after {WARM_UP} to warm up; then \
         {IN_FLIGHT} probes at once of a server that does not answer"
    );
    let contestants = settings.enlist(&CONTESTANTS, &mut report)?;
    let Some(server) = contestants.first() else { return Ok(report) };
    let targets = Targets::start(settings, server)?;
    for found in &contestants {
        eprintln!("{} {}: {probes} probes", found.name, found.version);
        match measure(settings, found, &targets, probes) {
            Ok(rows) => {
                let rows = rows.into_iter().map(|(group, values)| found.row(group, values.map(Some).to_vec()));
                report.rows.extend(rows);
            }
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    Ok(report)
}

/// What is probed: two servers in processes of their own, and one that takes connections and says nothing.
struct Targets {
    plain: (Running, SocketAddr),
    secure: (Running, SocketAddr),
    silent: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Targets {
    /// The servers are exporters as well, asked for a page that costs them nothing.
    fn start(settings: &Settings, server: &Found) -> Result<Self, BenchError> {
        let folder = settings.data_folder()?;
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).map_err(|e| BenchError::io(path.display().to_string(), e))
        };
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
            .map_err(|e| BenchError::program("certificate", e.to_string()))?;
        write("cert.pem", &certified.cert.pem())?;
        write("key.pem", &certified.signing_key.serialize_pem())?;
        write("web.yml", "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")?;
        write("blackbox.yml", "modules: {}\n")?;
        let start = |web: &[&str]| -> Result<(Running, SocketAddr), BenchError> {
            let address = free_address()?;
            let mut arguments =
                vec!["--config.file=blackbox.yml".to_owned(), format!("--web.listen-address={address}")];
            arguments.extend(web.iter().map(|flag| (*flag).to_owned()));
            Ok((Running::start("server", &server.binary, &arguments, folder.path())?, address))
        };
        let mut plain = start(&[])?;
        plain.0.wait_ready(plain.1, "/-/healthy", Duration::from_secs(30))?;
        let secure = start(&["--web.config.file=web.yml"])?;
        wait_listening(secure.1)?;
        let named = |e| BenchError::io("a silent server", e);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(named)?;
        let silent = listener.local_addr().map_err(named)?;
        std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                held.push(stream);
            }
        });
        Ok(Self { plain, secure, silent, _folder: folder })
    }
}

fn wait_listening(address: SocketAddr) -> Result<(), BenchError> {
    for _ in 0..600 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(BenchError::program("server", "it does not listen"))
}

type Rows = Vec<(&'static str, [f64; 4])>;

fn measure(settings: &Settings, found: &Found, targets: &Targets, probes: usize) -> Result<Rows, BenchError> {
    let mut rows = Rows::new();
    let (plain, secure) = (targets.plain.1, targets.secure.1);
    for (group, module, target) in [
        ("HTTP", "http_2xx", format!("http://{plain}/-/healthy")),
        ("HTTPS", "https", format!("https://{secure}/-/healthy")),
    ] {
        let folder = settings.data_folder()?;
        let (running, address) = start(found, folder.path())?;
        let path = format!("/probe?module={module}&target={}", encode(&target));
        let named = |e| BenchError::io(format!("asking {}", found.name), e);
        let mut connection = Connection::open(address, Duration::from_secs(60)).map_err(named)?;
        let mut ask = |times: usize| -> Result<(), BenchError> {
            for _ in 0..times {
                let answer = connection.get(&path, &[]).map_err(named)?;
                let text = answer.text().map_err(named)?;
                if answer.status != 200 || !text.contains("\nprobe_success 1") {
                    return Err(BenchError::program(found.name, format!("the probe of {target} fails: {text}")));
                }
            }
            Ok(())
        };
        ask(WARM_UP)?;
        let before = running.processor_time()?;
        ask(probes)?;
        let spent = (running.processor_time()? - before).as_secs_f64() / probes as f64;
        let memory = running.memory()?;
        running.stop()?;
        rows.push((group, [spent, memory.resident as f64, memory.anonymous as f64, memory.peak as f64]));
    }
    rows.push(("1000 in flight", in_flight(settings, found, targets.silent)?));
    Ok(rows)
}

fn start(found: &Found, folder: &Path) -> Result<(Running, SocketAddr), BenchError> {
    let file = folder.join("blackbox.yml");
    std::fs::write(&file, CONFIG).map_err(|e| BenchError::io(file.display().to_string(), e))?;
    let address = free_address()?;
    let arguments = ["--config.file=blackbox.yml".to_owned(), format!("--web.listen-address={address}")];
    let mut running = Running::start(found.name, &found.binary, &arguments, folder)?;
    running.wait_ready(address, "/-/healthy", Duration::from_secs(30))?;
    Ok((running, address))
}

/// Memory while probes wait; the processor's time for each until then.
fn in_flight(settings: &Settings, found: &Found, silent: SocketAddr) -> Result<[f64; 4], BenchError> {
    let files = getrlimit(Resource::Nofile);
    // both ends of every connection are here
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })
        .map_err(|e| BenchError::io("the limit of open files", e.into()))?;
    let folder = settings.data_folder()?;
    let (running, address) = start(found, folder.path())?;
    let before = running.processor_time()?;
    let named = |e| BenchError::io(format!("asking {}", found.name), e);
    let mut open = Vec::with_capacity(IN_FLIGHT);
    for _ in 0..IN_FLIGHT {
        let mut stream = TcpStream::connect(address).map_err(named)?;
        let request = format!("GET /probe?module=http_2xx&target=http://{silent}/ HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(named)?;
        open.push(stream);
    }
    std::thread::sleep(Duration::from_secs(3));
    let spent = (running.processor_time()? - before).as_secs_f64() / IN_FLIGHT as f64;
    let memory = running.memory()?;
    drop(open);
    running.stop()?;
    Ok([spent, memory.resident as f64, memory.anonymous as f64, memory.peak as f64])
}
