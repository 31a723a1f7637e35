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
        let among = |names: &[String], name: &str| names.iter().any(|n| n == name);
        match self {
            Self::All => labels.clone(),
            Self::Only(names) => labels.filter(|name| among(names, name)),
            Self::Without(names) => labels.filter(|name| !among(names, name)),
        }
    }
}
