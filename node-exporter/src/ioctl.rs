//! System calls that neither the standard library nor rustix has: each with fixed structures, so that its callers need no
//! unsafe code.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `ifr_name`, with the zero byte at its end.
const NAME_BYTES: usize = 16;
/// A name in a string set.
const STRING_BYTES: usize = 32;
/// More names or numbers than a device says it has: drivers may add some between two questions, and the kernel writes as many
/// as there are then.
const MORE: usize = 1024;

const ETHTOOL_GSET: u32 = 0x01;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
/// The string set with the names of statistics.
const ETH_SS_STATS: u32 = 1;

/// `struct ifreq` as `SIOCETHTOOL` uses it.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    data: *mut u8,
    rest: [u8; 16],
}

/// Asks the driver of a network device. The command stands in the first four bytes of `data`, which must have room for all
/// that the kernel writes for it.
#[expect(unsafe_code, reason = "no library in the tree has SIOCETHTOOL")]
fn ethtool(socket: impl AsFd, device: &str, data: &mut [u8]) -> io::Result<()> {
    let mut name = [0; NAME_BYTES];
    if device.len() >= NAME_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    name[..device.len()].copy_from_slice(device.as_bytes());
    let mut request = Request { name, data: data.as_mut_ptr(), rest: [0; 16] };
    // SAFETY: the descriptor is open, the request has the kernel's layout and is as large as `struct ifreq`, and its pointer
    // leads to a buffer that lives on; the three callers below make it as large as their commands need
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn command(number: u32, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data
}

/// `struct ethtool_drvinfo`: 196 bytes.
pub(crate) fn driver(socket: impl AsFd, device: &str) -> io::Result<Vec<u8>> {
    let mut data = command(ETHTOOL_GDRVINFO, 196);
    ethtool(socket, device, &mut data)?;
    Ok(data)
}

/// `struct ethtool_cmd`: 44 bytes.
pub(crate) fn link(socket: impl AsFd, device: &str) -> io::Result<Vec<u8>> {
    let mut data = command(ETHTOOL_GSET, 44);
    ethtool(socket, device, &mut data)?;
    Ok(data)
}

/// Names and values of a device's own statistics, of which its driver says it has `count`.
pub(crate) fn statistics(socket: impl AsFd, device: &str, count: usize) -> io::Result<Vec<(String, u64)>> {
    let room = count.saturating_mul(2).min(1 << 20) + MORE;
    let mut names = command(ETHTOOL_GSTRINGS, 12 + room * STRING_BYTES);
    names[4..8].copy_from_slice(&ETH_SS_STATS.to_ne_bytes());
    ethtool(&socket, device, &mut names)?;
    let mut values = command(ETHTOOL_GSTATS, 8 + room * 8);
    ethtool(&socket, device, &mut values)?;
    let len =
        |data: &[u8], at: usize| u32::from_ne_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]) as usize;
    let count = len(&names, 8).min(len(&values, 4)).min(room);
    let names = names[12..].as_chunks::<STRING_BYTES>().0.iter().map(|name| text(name));
    let values = values[8..].as_chunks::<8>().0.iter().map(|value| u64::from_ne_bytes(*value));
    Ok(names.zip(values).take(count).collect())
}

/// Text up to a zero byte.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// `BTRFS_IOC_FS_INFO`, `BTRFS_IOC_DEV_INFO` and `BTRFS_IOC_GET_DEV_STATS`: what is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Btrfs {
    /// `struct btrfs_ioctl_fs_info_args`.
    Filesystem,
    /// `struct btrfs_ioctl_dev_info_args`.
    Device(u64),
    /// `struct btrfs_ioctl_get_dev_stats` with five counters.
    Errors(u64),
}

/// Asks a btrfs file system, of which `folder` is any folder. The first is 1024 bytes, the second 4096, the third 1032.
#[expect(unsafe_code, reason = "no library in the tree has the calls of btrfs")]
pub(crate) fn btrfs(folder: impl AsFd, question: Btrfs) -> io::Result<Vec<u8>> {
    // the numbers say how large the structures are: 1024, 4096 and 1032 bytes
    let (number, len) = match question {
        Btrfs::Filesystem => (0x8400_941f_u32, 1024),
        Btrfs::Device(_) => (0xd000_941e, 4096),
        Btrfs::Errors(_) => (0xc408_9434, 1032),
    };
    let mut data = vec![0u8; len];
    match question {
        Btrfs::Filesystem => {}
        Btrfs::Device(id) => data[..8].copy_from_slice(&id.to_ne_bytes()),
        Btrfs::Errors(id) => {
            data[..8].copy_from_slice(&id.to_ne_bytes());
            data[8..16].copy_from_slice(&5u64.to_ne_bytes());
        }
    }
    // SAFETY: the descriptor is open, and the buffer has the length that is part of the call's number
    let result = unsafe { libc::ioctl(folder.as_fd().as_raw_fd(), number.into(), data.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(data) }
}

/// `struct perf_event_attr` up to its fifth version.
const EVENT_BYTES: usize = 112;

/// Counts an event of all processes on a CPU from now on, the hypervisor's share left out. The descriptor gives the count as
/// eight bytes.
#[expect(unsafe_code, reason = "no library in the tree has perf_event_open")]
pub(crate) fn count_event(kind: u32, config: u64, cpu: u32) -> io::Result<OwnedFd> {
    let mut event = [0u8; EVENT_BYTES];
    event[0..4].copy_from_slice(&kind.to_ne_bytes());
    event[4..8].copy_from_slice(&(EVENT_BYTES as u32).to_ne_bytes());
    event[8..16].copy_from_slice(&config.to_ne_bytes());
    let exclude_hypervisor: u64 = 1 << 6;
    event[40..48].copy_from_slice(&exclude_hypervisor.to_ne_bytes());
    let (every_process, no_group, close_on_exec) = (-1i32, -1i32, 8u64);
    let cpu = i32::try_from(cpu).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel reads as many bytes as the structure says it has
    let result = unsafe {
        libc::syscall(libc::SYS_perf_event_open, event.as_ptr(), every_process, cpu, no_group, close_on_exec)
    };
    let Ok(descriptor) = i32::try_from(result) else { return Err(io::ErrorKind::InvalidData.into()) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just opened it, and nobody else knows it
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> OwnedFd {
        use rustix::net::{AddressFamily, SocketType, socket};
        socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap()
    }

    #[test]
    fn devices_that_are_not_there_are_errors() {
        assert_eq!(driver(socket(), "firewatch-none").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(driver(socket(), "a-name-that-is-too-long").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(statistics(socket(), "firewatch-none", 5).is_err());
        assert!(link(socket(), "lo").is_err(), "loopback has no link settings");
    }

    #[test]
    fn other_file_systems_know_nothing_of_btrfs() {
        let folder = std::fs::File::open("/proc").unwrap();
        for question in [Btrfs::Filesystem, Btrfs::Device(1), Btrfs::Errors(1)] {
            assert_eq!(btrfs(&folder, question).unwrap_err().raw_os_error(), Some(libc::ENOTTY), "{question:?}");
        }
    }

    #[test]
    fn events_that_do_not_exist_are_errors() {
        assert!(count_event(u32::MAX, 0, 0).is_err());
        assert!(count_event(1, 3, u32::MAX).is_err());
    }
}
