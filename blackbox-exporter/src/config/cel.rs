use std::fmt;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use serde::{Deserialize, Deserializer, de};

/// A CEL expression over `body`, the JSON object of an answer.
pub(crate) struct CelExpression {
    text: String,
    program: cel::Program,
}

/// Names that stand for types.
const TYPES: [&str; 10] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

impl CelExpression {
    fn new(text: &str) -> Result<Self, String> {
        let fault = || format!("\"Could not compile CEL program\" expression={}", model::quote(text));
        let program = cel::Program::compile(text).map_err(|_| fault())?;
        // there is one variable: anything else would fail every probe
        let mut bound = vec!["body"];
        bound.extend(TYPES);
        if only_names(program.expression(), &mut bound) {
            Ok(Self { text: text.to_owned(), program })
        } else {
            Err(fault())
        }
    }

    /// The compiled program.
    pub(crate) fn program(&self) -> &cel::Program {
        &self.program
    }
}

/// Whether an expression speaks of bound names only.
fn only_names<'a>(expression: &'a IdedExpr, bound: &mut Vec<&'a str>) -> bool {
    match &expression.expr {
        Expr::Ident(name) => bound.contains(&name.as_str()),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).all(|e| only_names(e, bound)),
        Expr::List(list) => list.elements.iter().all(|e| only_names(e, bound)),
        Expr::Select(select) => only_names(&select.operand, bound),
        Expr::Map(map) => map.entries.iter().all(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => only_names(&entry.key, bound) && only_names(&entry.value, bound),
            EntryExpr::StructField(field) => only_names(&field.value, bound),
        }),
        Expr::Struct(_) => false,
        Expr::Comprehension(over) => {
            if !only_names(&over.iter_range, bound) || !only_names(&over.accu_init, bound) {
                return false;
            }
            let before = bound.len();
            bound.extend([over.iter_var.as_str(), over.accu_var.as_str()]);
            bound.extend(over.iter_var2.as_deref());
            let inner = [&over.loop_cond, &over.loop_step, &over.result].into_iter().all(|e| only_names(e, bound));
            bound.truncate(before);
            inner
        }
        Expr::Unspecified | Expr::Literal(_) => true,
    }
}

impl fmt::Debug for CelExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CelExpression({:?})", self.text)
    }
}

impl fmt::Display for CelExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for CelExpression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_must_be_bound() {
        for (text, fine) in [
            ("body.a == 'b' && body.c.startsWith('d')", true),
            ("body.l.exists(x, x == 1)", true),
            ("body.l.all(x, body.m.exists(y, x == y))", true),
            ("has(body.a) && size(body.l) > 2", true),
            ("type(body.a) == string", true),
            ("other == 1", false),
            ("body.l.exists(x, y == 1)", false),
            ("body.a ==", false),
            ("x", false),
        ] {
            assert_eq!(CelExpression::new(text).is_ok(), fine, "{text}");
        }
    }
}
