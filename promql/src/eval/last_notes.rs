use crate::annotations::Annotations;

/// The annotations of a binary operator on vectors: of each step only those of the last pair that had some are reported, as
/// Prometheus does.
pub(super) struct LastNotes {
    by_step: Vec<Option<(usize, Annotations)>>,
}

impl LastNotes {
    pub(super) fn new(steps: usize) -> Self {
        Self { by_step: vec![None; steps] }
    }

    /// The annotations of the series at `row`, which need not come in order.
    pub(super) fn note(&mut self, step: usize, row: usize, notes: Annotations) {
        if notes.is_empty() {
            return;
        }
        let slot = &mut self.by_step[step];
        if slot.as_ref().is_none_or(|(known, _)| *known <= row) {
            *slot = Some((row, notes));
        }
    }

    pub(super) fn into_annotations(self) -> Annotations {
        let mut all = Annotations::default();
        for (_, notes) in self.by_step.into_iter().flatten() {
            all.merge(notes);
        }
        all
    }
}
