//! Binary operators of the generator, with matching that mostly finds partners.

use crate::data::Kind;
use crate::generate::{Generator, Vector};

const ARITHMETIC: [&str; 7] = ["+", "-", "*", "/", "%", "^", "atan2"];
const COMPARISONS: [&str; 6] = ["==", "!=", ">", "<", ">=", "<="];

impl Generator<'_> {
    pub(crate) fn binary(&mut self, depth: usize, kind: Kind) -> Vector {
        match self.random.below(10) {
            0..4 => self.with_scalar(depth, kind),
            4..6 => self.set_operator(depth, kind),
            _ => self.of_vectors(depth, kind),
        }
    }

    /// The operator, and `bool` or not.
    fn operator(&mut self, kind: Kind) -> (&'static str, &'static str) {
        // of histograms most operators give nothing
        if kind == Kind::Histograms && self.random.chance(80) {
            return (*self.random.pick(&["+", "-", "*", "/", "==", "!="]), "");
        }
        if self.random.chance(60) {
            return (*self.random.pick(&ARITHMETIC), "");
        }
        (*self.random.pick(&COMPARISONS), if self.random.chance(45) { "bool " } else { "" })
    }

    fn with_scalar(&mut self, depth: usize, kind: Kind) -> Vector {
        let vector = self.vector(depth - 1, kind);
        let scalar = self.scalar(1);
        let (op, bool) = self.operator(kind);
        let (mut a, mut b) = (vector.operand(), scalar);
        if self.random.chance(30) {
            (a, b) = (b, a);
        }
        Vector { text: format!("{a} {op} {bool}{b}"), labels: vector.labels, loose: true }
    }

    fn set_operator(&mut self, depth: usize, kind: Kind) -> Vector {
        let (a, b) = self.operands(depth, kind);
        let op = *self.random.pick(&["and", "or", "unless"]);
        let common: Vec<String> = a.labels.iter().filter(|l| b.labels.contains(l)).cloned().collect();
        let matching = if a.labels == b.labels && self.random.chance(60) {
            String::new()
        } else if self.random.chance(70) {
            format!("on ({}) ", common.join(", "))
        } else {
            let other: Vec<String> =
                a.labels.iter().chain(&b.labels).filter(|l| !common.contains(l)).cloned().collect();
            format!("ignoring ({}) ", other.join(", "))
        };
        Vector { text: format!("{} {op} {matching}{}", a.operand(), b.operand()), labels: a.labels, loose: true }
    }

    fn operands(&mut self, depth: usize, kind: Kind) -> (Vector, Vector) {
        let a = self.vector(depth - 1, kind);
        let kind = match self.random.below(10) {
            0 => Kind::Floats,
            1 => Kind::Mixture,
            _ => kind,
        };
        let b = if self.random.chance(20) { a.clone() } else { self.vector(depth - 1, kind) };
        (a, b)
    }

    fn of_vectors(&mut self, depth: usize, kind: Kind) -> Vector {
        let (a, mut b) = self.operands(depth, kind);
        let (op, bool) = self.operator(kind);
        let within = |x: &[String], y: &[String]| x.iter().all(|l| y.contains(l));
        let without = |x: &[String], y: &[String]| -> String {
            x.iter().filter(|l| !y.contains(l)).cloned().collect::<Vec<_>>().join(", ")
        };
        let mut labels = a.labels.clone();
        let matching = if self.random.chance(7) {
            // whatever comes: errors of both servers are compared, too
            let group = *self.random.pick(&["", " group_left ()", " group_right ()", " group_left (version)"]);
            let word = *self.random.pick(&["on (job)", "on ()", "ignoring (instance)", "on (instance)", "ignoring ()"]);
            format!("{word}{group}")
        } else if a.labels == b.labels {
            match self.random.below(4) {
                0 => format!("on ({})", a.labels.join(", ")),
                1 => "ignoring (missing)".to_owned(),
                _ => String::new(),
            }
        } else if within(&b.labels, &a.labels) || within(&a.labels, &b.labels) {
            let left = within(&b.labels, &a.labels);
            let (many, one) = if left { (&a.labels, &b.labels) } else { (&b.labels, &a.labels) };
            labels.clone_from(many);
            let side = if left { "group_left" } else { "group_right" };
            let include = if self.random.chance(30) { one.first().cloned().unwrap_or_default() } else { String::new() };
            // a label of `on` may not be included as well
            if self.random.chance(50) || !include.is_empty() {
                let on: Vec<String> = one.iter().filter(|l| **l != include).cloned().collect();
                format!("on ({}) {side} ({include})", on.join(", "))
            } else {
                format!("ignoring ({}) {side} ()", without(many, one))
            }
        } else {
            let common: Vec<String> = a.labels.iter().filter(|l| b.labels.contains(l)).cloned().collect();
            let list = common.join(", ");
            b = Vector { text: format!("sum by ({list}) ({})", b.text), labels: common, loose: false };
            format!("on ({list}) group_left ()")
        };
        let space = if matching.is_empty() { "" } else { " " };
        Vector { text: format!("{} {op} {bool}{matching}{space}{}", a.operand(), b.operand()), labels, loose: true }
    }
}
