use super::Evaluator;
use super::frame::{Frame, Row};
use crate::QueryError;
use crate::ast::{Call, Expr};

impl Evaluator<'_> {
    /// `timestamp(v)`: of a selector the times of its samples, of anything else the evaluation time.
    pub(super) fn timestamp(&self, call: &Call) -> Result<Frame, QueryError> {
        self.times(&call.args[0], |time, _| time as f64 / 1000.0, |time| time as f64 / 1000.0)
    }

    /// `start_timestamp(v)`: of a selector the start timestamps of its samples, 0 where unknown.
    pub(super) fn start_timestamp(&self, call: &Call) -> Result<Frame, QueryError> {
        self.times(&call.args[0], |_, start| start as f64 / 1000.0, |_| 0.0)
    }

    fn times(
        &self,
        arg: &Expr,
        of_sample: super::selector::SampleTimeFn,
        of_step: fn(i64) -> f64,
    ) -> Result<Frame, QueryError> {
        let mut frame = match arg.unparen() {
            Expr::Vector(selector) if selector.extended.is_none() => {
                // the samples of a step are held no longer than the step
                let mark = self.query.mark();
                let frame = self.select_times(selector, of_sample)?;
                self.query.release(self.query.held_since(mark));
                let mut points = vec![0; self.steps.count];
                for row in &frame.rows {
                    self.query.check()?;
                    points.iter_mut().enumerate().for_each(|(step, points)| *points += u32::from(row.has(step)));
                }
                self.note_gathered(points);
                frame
            }
            other => {
                let mut frame = self.vector(other)?;
                for row in &mut frame.rows {
                    self.query.check()?;
                    let mut times = Row::new(row.labels.clone(), row.drop_name, self.steps.count);
                    for step in (0..self.steps.count).filter(|step| row.has(*step)) {
                        times.set_float(step, of_step(self.steps.time(step)));
                    }
                    *row = times;
                }
                frame
            }
        };
        for row in &mut frame.rows {
            self.drop_name(row);
        }
        Ok(frame)
    }
}
