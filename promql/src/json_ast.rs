//! The syntax tree as JSON, in the shape of `/api/v1/parse_query`. Keys are in alphabetical order, as Go writes them.

use model::Matcher;
use serde_json::{Value, json};

use crate::ast::{At, Binary, Expr, Extended, TimeShift, VectorMatching, VectorSelector};
use crate::go_text::format_plain;

impl Expr {
    /// The tree as `/api/v1/parse_query` answers it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Number(number) => json!({ "type": "numberLiteral", "val": format_plain(number.value) }),
            Self::String(string) => json!({ "type": "stringLiteral", "val": string.text() }),
            Self::Vector(selector) => json!({
                "anchored": selector.extended == Some(Extended::Anchored),
                "matchers": matchers(&selector.matchers),
                "name": selector.name,
                "offset": selector.shift.offset,
                "smoothed": selector.extended == Some(Extended::Smoothed),
                "startOrEnd": start_or_end(&selector.shift),
                "timestamp": timestamp(&selector.shift),
                "type": "vectorSelector",
            }),
            Self::Matrix(matrix) => {
                let selector: &VectorSelector = &matrix.selector;
                json!({
                    "anchored": selector.extended == Some(Extended::Anchored),
                    "matchers": matchers(&selector.matchers),
                    "name": selector.name,
                    "offset": selector.shift.offset,
                    "range": matrix.range,
                    "smoothed": selector.extended == Some(Extended::Smoothed),
                    "startOrEnd": start_or_end(&selector.shift),
                    "timestamp": timestamp(&selector.shift),
                    "type": "matrixSelector",
                })
            }
            Self::Subquery(subquery) => json!({
                "expr": subquery.expr.to_json(),
                "offset": subquery.shift.offset,
                "range": subquery.range,
                "startOrEnd": start_or_end(&subquery.shift),
                "step": subquery.step,
                "timestamp": timestamp(&subquery.shift),
                "type": "subquery",
            }),
            Self::Call(call) => {
                let arg_types: Vec<&str> = call.function.arg_types.iter().map(|t| t.as_str()).collect();
                json!({
                    "args": call.args.iter().map(Self::to_json).collect::<Vec<_>>(),
                    "func": {
                        "argTypes": arg_types,
                        "name": call.function.name,
                        "returnType": call.function.return_type.as_str(),
                        "variadic": call.function.variadic_code(),
                    },
                    "type": "call",
                })
            }
            Self::Aggregate(aggregate) => json!({
                "expr": aggregate.expr.to_json(),
                "grouping": aggregate.grouping,
                "op": aggregate.op.as_str(),
                "param": aggregate.param.as_ref().map(|param| param.to_json()),
                "type": "aggregation",
                "without": aggregate.without,
            }),
            Self::Unary(unary) => json!({
                "expr": unary.expr.to_json(),
                "op": if unary.negative { "-" } else { "+" },
                "type": "unaryExpr",
            }),
            Self::Paren(paren) => json!({ "expr": paren.expr.to_json(), "type": "parenExpr" }),
            Self::Binary(_) => self.chain_to_json(),
        }
    }

    /// Chains of binary operators can be long, so they are not recursed into.
    fn chain_to_json(&self) -> Value {
        let mut chain: Vec<&Binary> = Vec::new();
        let mut at = self;
        while let Self::Binary(binary) = at {
            chain.push(binary);
            at = &binary.lhs;
        }
        let mut out = at.to_json();
        for binary in chain.into_iter().rev() {
            out = json!({
                "bool": binary.return_bool,
                "lhs": out,
                "matching": binary.matching.as_ref().map(matching),
                "op": binary.op.as_str(),
                "rhs": binary.rhs.to_json(),
                "type": "binaryExpr",
            });
        }
        out
    }
}

fn matching(matching: &VectorMatching) -> Value {
    // JSON has no infinity: what Go could not marshal either is left out
    let fill = |value: Option<f64>| value.filter(|v| v.is_finite());
    json!({
        "card": matching.card.as_str(),
        "fillValues": { "lhs": fill(matching.fill_left), "rhs": fill(matching.fill_right) },
        "include": matching.include,
        "labels": matching.labels,
        "on": matching.on,
    })
}

fn matchers(matchers: &[Matcher]) -> Vec<Value> {
    matchers.iter().map(|m| json!({ "name": m.name, "type": m.op().as_str(), "value": m.value })).collect()
}

fn start_or_end(shift: &TimeShift) -> Option<&'static str> {
    match shift.at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        Some(At::Time(_)) | None => None,
    }
}

fn timestamp(shift: &TimeShift) -> Option<i64> {
    match shift.at {
        Some(At::Time(millis)) => Some(millis),
        _ => None,
    }
}
