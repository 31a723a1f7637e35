use std::collections::BTreeMap;

use model::Metadata;
use parking_lot::RwLock;

/// What a target said about its metric families on its last page.
#[derive(Debug, Default)]
pub struct TargetMetadata {
    families: RwLock<BTreeMap<Box<str>, Metadata>>,
}

impl TargetMetadata {
    /// Changes what is known about a family.
    pub(super) fn set(&self, family: &str, change: impl FnOnce(&mut Metadata)) {
        let mut families = self.families.write();
        match families.get_mut(family) {
            Some(metadata) => change(metadata),
            None => {
                let mut metadata = Metadata::default();
                change(&mut metadata);
                families.insert(family.into(), metadata);
            }
        }
    }

    /// The metadata of one family, looked up also by the name of a series of it (`_bucket`, `_sum`, `_count`, `_total`).
    pub fn get(&self, metric: &str) -> Option<Metadata> {
        self.families.read().get(metric).cloned()
    }

    /// Calls `visit` with each family.
    pub fn for_each(&self, mut visit: impl FnMut(&str, &Metadata)) {
        for (family, metadata) in &*self.families.read() {
            visit(family, metadata);
        }
    }

    /// Number of families and of bytes of their texts.
    pub fn size(&self) -> (usize, usize) {
        let families = self.families.read();
        let bytes =
            families.iter().map(|(name, m)| name.len() + m.help.len() + m.unit.len() + m.metric_type.as_str().len());
        (families.len(), bytes.sum())
    }
}
