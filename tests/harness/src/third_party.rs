use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exporters that are not ours and the servers behind them, unpacked from the machine's own release by
/// `tests/bench/peers.sh --third-party`.
#[derive(Debug)]
pub struct ThirdParty {
    /// The folder that stands for `/`.
    root: PathBuf,
}

impl ThirdParty {
    /// These programs, if the tests may use them and they are there: `FIREWATCH_THIRD_PARTY` names their folder.
    pub fn find(names: &[&str]) -> Option<Self> {
        let bin = std::env::var_os("FIREWATCH_THIRD_PARTY").map(PathBuf::from);
        let root = bin.as_deref().and_then(Path::parent).and_then(Path::parent).filter(|root| root.is_dir());
        let found = root.map(|root| Self { root: root.to_owned() });
        match found.as_ref().map(|programs| names.iter().find(|name| programs.path(name).is_none())) {
            None => println!("skipped: FIREWATCH_THIRD_PARTY does not name a folder"),
            Some(Some(name)) => println!("skipped: FIREWATCH_THIRD_PARTY does not name a folder with {name}"),
            Some(None) => return found,
        }
        None
    }

    /// A program, with the libraries unpacked beside it.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn command(&self, name: &str) -> Command {
        let path = self.path(name).unwrap_or_else(|| panic!("{} has no {name}", self.root.display()));
        println!("third party: {}", path.display());
        let mut command = Command::new(path);
        command.env("LD_LIBRARY_PATH", self.libraries());
        command
    }

    /// The same under another user's id where we are root, for programs that refuse to run as root. The files are ours all the
    /// same: only the process sees itself under that id, in a user namespace. `None` where the machine allows none.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn unprivileged(&self, name: &str) -> Option<Command> {
        if !rustix::process::geteuid().is_root() {
            return Some(self.command(name));
        }
        let namespace = || {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-user=65534", "--map-group=65534"]);
            command
        };
        if !namespace().arg("true").status().is_ok_and(|status| status.success()) {
            println!("skipped: {name} does not run as root, and this machine allows no user namespaces");
            return None;
        }
        let program = self.command(name);
        let mut command = namespace();
        command.arg(program.get_program()).env("LD_LIBRARY_PATH", self.libraries());
        Some(command)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        // PostgreSQL keeps its programs in a folder for each version
        let versions = folders(&self.root.join("usr/lib/postgresql")).map(|version| version.join("bin"));
        let mut places = std::iter::once(self.root.join("usr/bin")).chain(versions).map(|folder| folder.join(name));
        places.find(|path| path.exists())
    }

    fn libraries(&self) -> OsString {
        let folders = ["usr/lib", "lib"].into_iter().flat_map(|folder| folders(&self.root.join(folder)));
        std::env::join_paths(folders).expect("no colon in the paths")
    }
}

/// The folders in a folder, none if it is not there.
fn folders(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir())
}
