use std::sync::Arc;

use common::metrics::Page;

use crate::collector::{Collector, CollectorError, Registration};
use crate::files::{Paths, read};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "os", default: true, flags: &[], build };

fn build(settings: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Os(settings.paths.clone())))
}

struct Os(Arc<Paths>);

const LABELS: [&str; 12] = [
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
];

impl Collector for Os {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let files = ["/etc/os-release", "/usr/lib/os-release"];
        let text = files.iter().find_map(|f| read(&self.0.root(f)).ok()).ok_or(CollectorError::NoData)?;
        let mut values: [String; 12] = Default::default();
        let mut support_end = String::new();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once('=') else { continue };
            let value = unquote(value);
            match LABELS.iter().position(|l| l.eq_ignore_ascii_case(key)) {
                Some(at) => values[at] = value,
                None if key == "SUPPORT_END" => support_end = value,
                None => {}
            }
        }
        let labels: Vec<(&str, &str)> = LABELS.iter().copied().zip(values.iter().map(String::as_str)).collect();
        let help = format!("A metric with a constant '1' value labeled by {}.", LABELS.join(", "));
        page.gauge("node_os_info", &help, &labels, 1.0);
        if let Some(version) = major_minor(&values[11]) {
            let help = "Metric containing the major.minor part of the OS version.";
            let labels = [("id", &*values[1]), ("id_like", &*values[2]), ("name", &*values[5])];
            page.gauge("node_os_version", help, &labels, version);
        }
        if let Some(seconds) = midnight(&support_end) {
            let help = "Metric containing the end-of-life date timestamp of the OS.";
            page.gauge("node_os_support_end_timestamp_seconds", help, &[], seconds);
        }
        Ok(())
    }
}

/// A value as a shell reads it.
fn unquote(value: &str) -> String {
    let inner = ['"', '\''].into_iter().find_map(|q| value.strip_prefix(q)?.strip_suffix(q));
    let Some(inner) = inner else { return value.to_owned() };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// The leading `20.04` of a version.
fn major_minor(version: &str) -> Option<f64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let major = digits(version);
    if major == 0 {
        return None;
    }
    let minor = version[major..].strip_prefix('.').map_or(0, digits);
    let end = if minor > 0 { major + 1 + minor } else { major };
    version[..end].parse().ok()
}

/// The Unix time of a date such as 2027-12-31.
fn midnight(date: &str) -> Option<f64> {
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // days from civil: years begin in March, so that leap days come last
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days as f64 * 86_400.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collectors::fixture::{check, paths};

    #[test]
    fn the_release_file_is_read() {
        let release = "NAME=\"A \\\"B\\\"\"\nID=ab\nVERSION_ID='12.3.4'\nSUPPORT_END=2027-03-01\n";
        let (_folder, paths) = paths(&[("root/usr/lib/os-release", release)]);
        check(
            &Os(paths),
            &Ok(()),
            &[
                "node_os_info{build_id=\"\",id=\"ab\",id_like=\"\",image_id=\"\",image_version=\"\",name=\"A \\\"B\\\"\",pretty_name=\"\",\
             variant=\"\",variant_id=\"\",version=\"\",version_codename=\"\",version_id=\"12.3.4\"} 1",
                "node_os_support_end_timestamp_seconds 1.8038592e+09",
                "node_os_version{id=\"ab\",id_like=\"\",name=\"A \\\"B\\\"\"} 12.3",
            ],
        );
    }

    #[test]
    fn dates_and_versions() {
        assert_eq!(
            (midnight("1970-01-01"), midnight("2024-02-29"), midnight("x")),
            (Some(0.0), Some(1_709_164_800.0), None)
        );
        assert_eq!(
            (major_minor("20.04.2"), major_minor("7"), major_minor("sid"), major_minor("9.")),
            (Some(20.04), Some(7.0), None, Some(9.0))
        );
    }
}
