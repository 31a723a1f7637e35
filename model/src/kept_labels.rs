use crate::Labels;

/// Which labels of series are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptLabels<'a> {
    /// All of them.
    All,
    /// Those with these names.
    Only(&'a [String]),
    /// All but those.
    Without(&'a [String]),
}

impl KeptLabels<'_> {
    /// The wanted part of a label set.
    pub fn of(&self, labels: &Labels) -> Labels {
        if *self == Self::All { labels.clone() } else { labels.filter(|name| self.keeps(name)) }
    }

    /// Whether labels with a name are wanted.
    pub fn keeps(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|n| n == name),
            Self::Without(names) => !names.iter().any(|n| n == name),
        }
    }
}
