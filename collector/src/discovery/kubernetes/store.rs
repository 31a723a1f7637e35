//! The objects that are known, and the groups that are made of them.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use super::super::Slot;
use super::follow::{Change, Resource};
use super::objects::{Object, Plain, Pod, Service};
use super::targets;

/// What is added to targets beside what their own object says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attached {
    pub(super) node: bool,
    pub(super) namespace: bool,
    pub(super) deployment: bool,
    pub(super) job: bool,
    pub(super) cronjob: bool,
}

/// Kind, namespace and name.
type Key = (Resource, String, String);

/// All known objects.
#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<Key, Object>);

/// Keeps objects and tells of groups.
pub(super) struct Store {
    main: Resource,
    attached: Attached,
    objects: Objects,
    /// Lists that have not come yet; before they have, groups would lack labels.
    missing: usize,
    listed: BTreeSet<(Resource, String)>,
    slot: Slot,
}

/// Changes that are taken in at once.
const BATCH: usize = 256;

impl Objects {
    fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Object> {
        self.0.get(&(resource, namespace.to_owned(), name.to_owned()))
    }

    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        if let Some(Object::Pod(pod)) = self.get(Resource::Pods, namespace, name) { Some(pod) } else { None }
    }

    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        if let Some(Object::Service(service)) = self.get(Resource::Services, namespace, name) {
            Some(service)
        } else {
            None
        }
    }

    pub(super) fn node(&self, name: &str) -> Option<&Object> {
        self.get(Resource::Nodes, "", name)
    }

    pub(super) fn plain(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Plain> {
        if let Some(Object::Plain(plain)) = self.get(resource, namespace, name) { Some(plain) } else { None }
    }

    #[cfg(test)]
    pub(super) fn insert(&mut self, resource: Resource, object: Object) {
        self.0.insert(key(resource, &object), object);
    }
}

fn key(resource: Resource, object: &Object) -> Key {
    let meta = object.meta();
    (resource, meta.namespace.clone(), meta.name.clone())
}

/// What tells the group of an object from others, as upstream names it.
fn source((resource, namespace, name): &Key) -> String {
    match resource {
        Resource::Nodes => format!("node/{name}"),
        Resource::Services => format!("svc/{namespace}/{name}"),
        other => format!("{}/{namespace}/{name}", other.role()),
    }
}

impl Store {
    pub(super) fn new(main: Resource, attached: Attached, lists: usize, slot: Slot) -> Self {
        Self { main, attached, objects: Objects::default(), missing: lists, listed: BTreeSet::new(), slot }
    }

    /// Takes changes in until all followers are gone.
    pub(super) async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        let mut batch = Vec::with_capacity(BATCH);
        while changes.recv_many(&mut batch, BATCH).await > 0 {
            let waited = self.missing > 0;
            let mut dirty = BTreeSet::new();
            for change in batch.drain(..) {
                self.take(change, &mut dirty);
            }
            if self.missing > 0 {
                continue;
            }
            if waited {
                dirty = self.objects.0.keys().filter(|key| key.0 == self.main).cloned().collect();
                // an empty cluster is news as well
                if dirty.is_empty() {
                    self.slot.set(Vec::new());
                }
            }
            for key in dirty {
                let source = source(&key);
                match self.objects.0.get(&key) {
                    Some(object) => self.slot.put(targets::group(object, source, &self.objects, self.attached)),
                    None => self.slot.remove(&source),
                }
            }
        }
    }

    fn take(&mut self, change: Change, dirty: &mut BTreeSet<Key>) {
        match change {
            Change::All { resource, namespace, objects } => {
                let mut now: BTreeMap<Key, Object> = objects.into_iter().map(|o| (key(resource, &o), o)).collect();
                let of_list = |key: &Key| key.0 == resource && (namespace.is_empty() || key.1 == namespace);
                let gone: Vec<Key> =
                    self.objects.0.keys().filter(|key| of_list(key) && !now.contains_key(key)).cloned().collect();
                for key in gone {
                    self.remove(&key, dirty);
                }
                while let Some((key, object)) = now.pop_first() {
                    self.put(key, object, dirty);
                }
                if self.listed.insert((resource, namespace)) {
                    self.missing -= 1;
                }
            }
            Change::Put(resource, object) => self.put(key(resource, &object), *object, dirty),
            Change::Gone(resource, object) => self.remove(&key(resource, &object), dirty),
        }
    }

    fn put(&mut self, key: Key, object: Object, dirty: &mut BTreeSet<Key>) {
        let before = self.objects.0.get(&key);
        if before == Some(&object) {
            return;
        }
        let event = if before.is_some() { "update" } else { "add" };
        self.slot.metrics.kubernetes_events.note(key.0.role(), event);
        self.affect(&key, dirty);
        self.objects.0.insert(key, object);
    }

    fn remove(&mut self, key: &Key, dirty: &mut BTreeSet<Key>) {
        if self.objects.0.remove(key).is_some() {
            self.slot.metrics.kubernetes_events.note(key.0.role(), "delete");
            self.affect(key, dirty);
        }
    }

    /// Marks the main objects whose groups show something of an object.
    fn affect(&self, changed: &Key, dirty: &mut BTreeSet<Key>) {
        if changed.0 == self.main {
            dirty.insert(changed.clone());
        }
        // before everything is listed nothing has been shown
        if self.missing > 0 || (changed.0 == self.main && self.main != Resource::Pods) {
            return;
        }
        let mains = self.objects.0.iter().filter(|(key, _)| key.0 == self.main && *key != changed);
        dirty.extend(mains.filter(|(_, object)| shows(object, changed, &self.objects)).map(|(key, _)| key.clone()));
    }
}

/// Whether the group of `main` shows something of the object of this key.
fn shows(main: &Object, (resource, namespace, name): &Key, objects: &Objects) -> bool {
    let meta = main.meta();
    let same_namespace = meta.namespace == *namespace;
    match resource {
        Resource::Namespaces => meta.namespace == *name,
        Resource::Services => same_namespace && targets::service_name(main) == Some(name),
        Resource::Pods => targets::pods(main).any(|(pod_namespace, pod)| pod_namespace == namespace && pod == name),
        Resource::Nodes => targets::nodes(main).any(|node| node == name),
        Resource::ReplicaSets | Resource::Jobs => {
            let kind = if *resource == Resource::Jobs { "Job" } else { "ReplicaSet" };
            let owned = |pod: &Pod| {
                let owner = pod.metadata.controller();
                pod.metadata.namespace == *namespace && owner.is_some_and(|o| o.kind == kind && o.name == *name)
            };
            match main {
                Object::Pod(pod) => owned(pod),
                main => targets::pods(main).any(|(namespace, pod)| objects.pod(namespace, pod).is_some_and(owned)),
            }
        }
        _ => false,
    }
}
