//! What may be probed: an exporter that others can ask must not be a way into the network behind it.

use std::net::IpAddr;
use std::str::FromStr;

/// Allow- and deny-lists of networks and modules. A deny-list wins; an empty allow-list allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The only networks that may be probed.
    pub allow_networks: Vec<Network>,
    /// Networks that may not.
    pub deny_networks: Vec<Network>,
    /// The only modules that may be asked for.
    pub allow_modules: Vec<String>,
    /// Modules that may not.
    pub deny_modules: Vec<String>,
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not a network: write it as 10.0.0.0/8 or fd00::/8");
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().map_err(|_| fault())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits: u8 = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(fault)?,
            None => most,
        };
        match address.to_canonical() {
            // an IPv4 network in IPv6's clothes
            canonical @ IpAddr::V4(_) if address.is_ipv6() => {
                let bits = bits.checked_sub(96).ok_or_else(fault)?;
                Ok(Self { address: canonical, bits })
            }
            canonical => Ok(Self { address: canonical, bits }),
        }
    }
}

impl Network {
    /// Whether an address lies within. IPv4 addresses written as IPv6 ones count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl Guard {
    /// Whether an address may be spoken to. Asked of every address that a probe connects to, those of redirects and proxies among
    /// them, after its name has been resolved.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        let within = |list: &[Network]| list.iter().any(|network| network.contains(address));
        !within(&self.deny_networks) && (self.allow_networks.is_empty() || within(&self.allow_networks))
    }

    /// Whether a module may be asked for.
    pub fn allows_module(&self, name: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|n| n == name);
        !listed(&self.deny_modules) && (self.allow_modules.is_empty() || listed(&self.allow_modules))
    }

    /// Whether targets that are not addresses, such as files, may be probed: not where only some networks are.
    pub fn allows_local_files(&self) -> bool {
        self.allow_networks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str], deny: &[&str]) -> Guard {
        let networks = |list: &[&str]| list.iter().map(|n| n.parse().unwrap()).collect();
        Guard { allow_networks: networks(allow), deny_networks: networks(deny), ..Guard::default() }
    }

    #[test]
    fn networks_are_allowed_and_denied() {
        for (allow, deny, address, expected) in [
            (&[][..], &[][..], "10.1.2.3", true),
            (&[], &["10.0.0.0/8"], "10.1.2.3", false),
            (&[], &["10.0.0.0/8"], "11.1.2.3", true),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.2.2.3", true),
            (&["10.0.0.0/8"], &[], "192.0.2.1", false),
            (&["10.0.0.0/8"], &[], "::1", false),
            // the IPv4 address in IPv6's clothes is no way around
            (&[], &["127.0.0.0/8"], "::ffff:127.0.0.1", false),
            (&[], &["169.254.169.254"], "169.254.169.254", false),
            (&[], &["169.254.169.254"], "169.254.169.253", true),
            (&[], &["::ffff:10.0.0.0/104"], "10.1.2.3", false),
            (&[], &["::ffff:10.0.0.0/104"], "11.1.2.3", true),
            (&["fd00::/8"], &[], "fd12::1", true),
            (&["0.0.0.0/0"], &[], "192.0.2.1", true),
            (&["::/0"], &[], "2001:db8::1", true),
        ] {
            assert_eq!(
                guard(allow, deny).allows_address(address.parse().unwrap()),
                expected,
                "{allow:?} {deny:?} {address}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/-1", "::ffff:10.0.0.0/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn modules_are_allowed_and_denied() {
        let guard =
            Guard { allow_modules: vec!["a".into(), "b".into()], deny_modules: vec!["b".into()], ..Guard::default() };
        assert_eq!(["a", "b", "c"].map(|m| guard.allows_module(m)), [true, false, false]);
    }
}
