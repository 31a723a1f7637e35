use crate::Value;

/// Byte offset in the template text.
pub(crate) type Pos = usize;

#[derive(Debug)]
pub(crate) enum Node {
    Text(String),
    /// `{{pipeline}}`; printed unless it declares or assigns.
    Action(Pipeline),
    If {
        condition: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        condition: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Template {
        name: String,
        argument: Option<Pipeline>,
        pos: Pos,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Pipeline {
    /// Variables set by it: two only in `range`.
    pub(crate) variables: Vec<String>,
    /// `=` rather than `:=`.
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
    pub(crate) pos: Pos,
}

/// An operand, with its arguments if it is a function or method.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) operands: Vec<Operand>,
    pub(crate) pos: Pos,
    /// The text as written, for messages.
    pub(crate) source: String,
}

#[derive(Debug)]
pub(crate) enum Operand {
    Dot,
    Nil,
    Constant(Value),
    Function(String),
    /// `$x.a.b`; the first is the variable.
    Variable(String, Vec<String>),
    /// `.a.b`
    Field(Vec<String>),
    /// `(pipeline).a.b`
    Group(Pipeline, Vec<String>),
}
