//! A disk that can fail and lose power: an observer of the store's file operations which lets them go to a real folder, keeps
//! account of what a loss of power would leave of it, and injects faults.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tsdb::{FileFault, FileObserver, FileOperation, Files};

use crate::random::Random;

/// Bytes that reach the disk together, or not.
const SECTOR: usize = 512;

/// A class of operations that a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything that changes the disk.
    Change,
    /// Writing bytes, which takes in creating files.
    Space,
    Sync,
    Read,
    Truncate,
}

/// A fault to be injected.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// Only of paths with this in them.
    pub(crate) path: &'static str,
    /// Operations that still go well.
    pub(crate) after: u64,
    /// Operations that fail then.
    pub(crate) times: u64,
    pub(crate) errno: i32,
    /// A write leaves a part of its bytes.
    pub(crate) short: bool,
}

impl Plan {
    pub(crate) fn new(kind: Kind, path: &'static str, errno: i32) -> Self {
        Self { kind, path, after: 0, times: u64::MAX, errno, short: false }
    }
}

/// What is changed in a file after the last fsync.
#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, new) => {
                bytes.resize(bytes.len().max(offset + new.len()), 0);
                bytes[*offset..offset + new.len()].copy_from_slice(new);
            }
            Self::Truncate(len) => bytes.resize(*len, 0),
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Put(String, usize),
    Take(String),
    Move(String, String, usize),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Put(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Take(name) => {
                names.remove(name);
            }
            Self::Move(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug)]
enum Node {
    File { durable: Vec<u8>, pending: Vec<Pending>, len: usize },
    Dir { durable: BTreeMap<String, usize>, pending: Vec<Change>, now: BTreeMap<String, usize> },
}

struct State {
    root: PathBuf,
    /// The first is the root.
    nodes: Vec<Node>,
    plans: Vec<Plan>,
    /// Changes until the power goes.
    until_off: Option<u64>,
    off: bool,
    /// Faults that have been injected.
    injected: u64,
}

/// The disk under one folder.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct Observer(Disk);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("plans", &self.plans).finish_non_exhaustive()
    }
}

impl Disk {
    /// The disk under a folder; what lies there is durable.
    pub(crate) fn new(root: &Path) -> Self {
        fs::create_dir_all(root).unwrap();
        let mut state = State {
            root: root.to_owned(),
            nodes: Vec::new(),
            plans: Vec::new(),
            until_off: None,
            off: false,
            injected: 0,
        };
        state.load(root);
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn files(&self) -> Files {
        Files::observed(Arc::new(Observer(self.clone())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    pub(crate) fn inject(&self, plan: Plan) {
        self.state().plans.push(plan);
    }

    /// Ends all faults. Says how many were injected.
    pub(crate) fn heal(&self) -> u64 {
        let mut state = self.state();
        state.plans.clear();
        std::mem::take(&mut state.injected)
    }

    /// Switches the power off after so many changes; from then on everything fails.
    pub(crate) fn cut_after(&self, changes: u64) {
        self.state().until_off = Some(changes);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state().off
    }

    pub(crate) fn faulty(&self) -> bool {
        let state = self.state();
        state.off || !state.plans.is_empty()
    }

    /// What a loss of power leaves, as a folder. Of what was not fsynced, `keep` in a hundred changes survive, each for
    /// itself; a write may survive in part.
    pub(crate) fn lose_power(&self, random: &mut Random, keep: u64, to: &Path) {
        self.state().leave(0, random, keep, to);
    }
}

impl FileObserver for Observer {
    fn before(&self, operation: &FileOperation<'_>) -> Result<(), FileFault> {
        self.0.state().before(operation)
    }

    fn done(&self, operation: &FileOperation<'_>) {
        self.0.state().done(operation);
    }
}

fn path_of<'a>(operation: &FileOperation<'a>) -> &'a Path {
    match operation {
        FileOperation::CreateDir(path)
        | FileOperation::Create(path)
        | FileOperation::Open(path)
        | FileOperation::Read(path)
        | FileOperation::Write(path, ..)
        | FileOperation::Truncate(path, _)
        | FileOperation::Sync(path)
        | FileOperation::SyncDir(path)
        | FileOperation::Rename(path, _)
        | FileOperation::Link(path, _)
        | FileOperation::Remove(path)
        | FileOperation::RemoveTree(path)
        | FileOperation::List(path) => path,
    }
}

fn concerns(plan: &Plan, operation: &FileOperation<'_>) -> bool {
    let reads = matches!(operation, FileOperation::Open(_) | FileOperation::Read(_) | FileOperation::List(_));
    let sync = matches!(operation, FileOperation::Sync(_) | FileOperation::SyncDir(_));
    let kind = match plan.kind {
        Kind::Change => !reads,
        Kind::Space => {
            matches!(operation, FileOperation::Write(..) | FileOperation::Create(_) | FileOperation::CreateDir(_))
        }
        Kind::Sync => sync,
        Kind::Read => reads,
        Kind::Truncate => matches!(operation, FileOperation::Truncate(..)),
    };
    kind && path_of(operation).to_str().is_some_and(|path| path.contains(plan.path))
}

impl State {
    /// Takes in what lies on the real disk.
    fn load(&mut self, path: &Path) -> usize {
        let at = self.nodes.len();
        if path.is_dir() {
            self.nodes.push(Node::Dir { durable: BTreeMap::new(), pending: Vec::new(), now: BTreeMap::new() });
            let mut names = BTreeMap::new();
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                names.insert(entry.file_name().into_string().unwrap(), self.load(&entry.path()));
            }
            self.nodes[at] = Node::Dir { durable: names.clone(), pending: Vec::new(), now: names };
        } else {
            let durable = fs::read(path).unwrap();
            let len = durable.len();
            self.nodes.push(Node::File { durable, pending: Vec::new(), len });
        }
        at
    }

    fn before(&mut self, operation: &FileOperation<'_>) -> Result<(), FileFault> {
        if self.off {
            return Err(FileFault { error: io::Error::from_raw_os_error(5), written: 0 });
        }
        let reads = matches!(operation, FileOperation::Open(_) | FileOperation::Read(_) | FileOperation::List(_));
        if let Some(left) = self.until_off.as_mut().filter(|_| !reads) {
            if *left == 0 {
                self.off = true;
                // the last write has got somewhere
                let written = if let FileOperation::Write(_, _, bytes) = operation { bytes.len() / 2 } else { 0 };
                return Err(FileFault { error: io::Error::from_raw_os_error(5), written });
            }
            *left -= 1;
        }
        for plan in self.plans.iter_mut().filter(|plan| concerns(plan, operation)) {
            if plan.after > 0 {
                plan.after -= 1;
            } else if plan.times > 0 {
                plan.times -= 1;
                let written = match operation {
                    FileOperation::Write(_, _, bytes) if plan.short => bytes.len() / 2,
                    _ => 0,
                };
                let error = io::Error::from_raw_os_error(plan.errno);
                self.injected += 1;
                if let FileOperation::Sync(path) = operation {
                    self.forget_unsynced(path);
                }
                return Err(FileFault { error, written });
            }
        }
        Ok(())
    }

    /// After a failed fsync the system takes the pages for clean: nothing but writing again brings them to the disk.
    fn forget_unsynced(&mut self, path: &Path) {
        if let Some(at) = self.find(path)
            && let Node::File { pending, .. } = &mut self.nodes[at]
        {
            pending.clear();
        }
    }

    fn relative(&self, path: &Path) -> Option<Vec<String>> {
        let path = path.strip_prefix(&self.root).ok()?;
        path.components()
            .map(|part| match part {
                Component::Normal(name) => name.to_str().map(str::to_owned),
                _ => None,
            })
            .collect()
    }

    fn find(&self, path: &Path) -> Option<usize> {
        self.relative(path)?.iter().try_fold(0, |at, name| match &self.nodes[at] {
            Node::Dir { now, .. } => now.get(name).copied(),
            Node::File { .. } => None,
        })
    }

    fn change(&mut self, dir: Option<&Path>, change: Change) {
        let Some(at) = dir.and_then(|dir| self.find(dir)) else { return };
        if let Node::Dir { pending, now, .. } = &mut self.nodes[at] {
            change.apply(now);
            pending.push(change);
        }
    }

    fn put(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        let at = self.nodes.len() - 1;
        self.change(path.parent(), Change::Put(name(path), at));
    }

    fn done(&mut self, operation: &FileOperation<'_>) {
        match operation {
            FileOperation::CreateDir(path) => {
                let (durable, pending, now) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
                self.put(path, Node::Dir { durable, pending, now });
            }
            FileOperation::Create(path) => match self.find(path) {
                Some(at) => self.alter(at, Pending::Truncate(0)),
                None => self.put(path, Node::File { durable: Vec::new(), pending: Vec::new(), len: 0 }),
            },
            FileOperation::Write(path, offset, bytes) => {
                let Some(at) = self.find(path) else { return };
                let end = if let Node::File { len, .. } = &self.nodes[at] { *len } else { 0 };
                self.alter(at, Pending::Write(offset.map_or(end, |o| o as usize), bytes.to_vec()));
            }
            FileOperation::Truncate(path, len) => {
                let Some(at) = self.find(path) else { return };
                self.alter(at, Pending::Truncate(*len as usize));
            }
            FileOperation::Sync(path) => {
                let Some(at) = self.find(path) else { return };
                if let Node::File { durable, pending, len } = &mut self.nodes[at] {
                    pending.drain(..).for_each(|change| change.apply(durable));
                    // bytes that a failed fsync lost are a hole
                    durable.resize(*len, 0);
                }
            }
            FileOperation::SyncDir(path) => {
                let Some(at) = self.find(path) else { return };
                if let Node::Dir { durable, pending, .. } = &mut self.nodes[at] {
                    pending.drain(..).for_each(|change| change.apply(durable));
                }
            }
            FileOperation::Rename(from, to) => {
                let Some(at) = self.find(from) else { return };
                if from.parent() == to.parent() {
                    self.change(from.parent(), Change::Move(name(from), name(to), at));
                } else {
                    self.change(to.parent(), Change::Put(name(to), at));
                    self.change(from.parent(), Change::Take(name(from)));
                }
            }
            FileOperation::Link(from, to) => {
                let Some(at) = self.find(from) else { return };
                self.change(to.parent(), Change::Put(name(to), at));
            }
            FileOperation::Remove(path) => self.change(path.parent(), Change::Take(name(path))),
            FileOperation::RemoveTree(path) => {
                let Some(at) = self.find(path) else { return };
                self.empty(at);
                self.change(path.parent(), Change::Take(name(path)));
            }
            FileOperation::Open(_) | FileOperation::Read(_) | FileOperation::List(_) => {}
        }
    }

    fn alter(&mut self, at: usize, change: Pending) {
        if let Node::File { pending, len, .. } = &mut self.nodes[at] {
            match &change {
                Pending::Write(offset, bytes) => *len = (*len).max(offset + bytes.len()),
                Pending::Truncate(to) => *len = *to,
            }
            pending.push(change);
        }
    }

    fn empty(&mut self, dir: usize) {
        let Node::Dir { pending, now, .. } = &mut self.nodes[dir] else { return };
        let children = std::mem::take(now);
        pending.extend(children.keys().cloned().map(Change::Take));
        children.values().for_each(|child| self.empty(*child));
    }

    fn leave(&self, at: usize, random: &mut Random, keep: u64, to: &Path) {
        match &self.nodes[at] {
            Node::Dir { durable, pending, .. } => {
                fs::create_dir_all(to).unwrap();
                let mut names = durable.clone();
                pending.iter().filter(|_| random.below(100) < keep).for_each(|change| change.apply(&mut names));
                for (name, child) in names {
                    self.leave(child, random, keep, &to.join(name));
                }
            }
            Node::File { durable, pending, .. } => {
                let mut bytes = durable.clone();
                for change in pending {
                    if random.below(100) >= keep {
                        continue;
                    }
                    match change {
                        Pending::Write(offset, new) if random.one_in(4) => {
                            // some sectors of it
                            for (number, sector) in new.chunks(SECTOR).enumerate() {
                                if random.one_in(2) {
                                    Pending::Write(offset + number * SECTOR, sector.to_vec()).apply(&mut bytes);
                                }
                            }
                        }
                        _ => change.apply(&mut bytes),
                    }
                }
                fs::write(to, bytes).unwrap();
            }
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|n| n.to_str()).unwrap().to_owned()
}
