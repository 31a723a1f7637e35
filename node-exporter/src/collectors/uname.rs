use common::metrics::Page;

use crate::collector::{Collector, CollectorError, Registration};
use crate::options::Settings;

pub(super) const REGISTRATION: Registration = Registration { name: "uname", default: true, flags: &[], build };

fn build(_: &Settings<'_>) -> Result<Box<dyn Collector>, String> {
    Ok(Box::new(Uname))
}

struct Uname;

impl Collector for Uname {
    fn collect(&self, page: &mut Page) -> Result<(), CollectorError> {
        let uname = rustix::system::uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        let domain = text(uname.domainname());
        let labels = [
            ("domainname", &*domain),
            ("machine", &text(uname.machine())),
            ("nodename", &text(uname.nodename())),
            ("release", &text(uname.release())),
            ("sysname", &text(uname.sysname())),
            ("version", &text(uname.version())),
        ];
        let help = "Labeled system information as provided by the uname system call.";
        page.gauge("node_uname_info", help, &labels, 1.0);
        Ok(())
    }
}
