use crate::ast::{Command, Node, Operand, Pipeline, Pos};
use crate::parser::{Source, Template};
use crate::{Error, Value, builtins};

/// The functions a template may call beside the predefined ones.
pub trait Functions {
    /// Whether there is a function `name`.
    fn has(&self, name: &str) -> bool;

    /// Calls function `name`, which exists.
    ///
    /// # Errors
    /// What went wrong, as text; execution ends with it.
    fn call(&self, name: &str, args: &[Value], caller: &dyn Caller) -> Result<Value, String>;
}

/// What a function can ask of the running template.
pub trait Caller {
    /// Executes another template of the set with `data` and returns its output.
    ///
    /// # Errors
    /// When there is no such template or it fails.
    fn template(&self, name: &str, data: &Value) -> Result<String, String>;
}

/// Bounds of an execution.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nodes visited.
    pub steps: usize,
    /// Templates within templates.
    pub depth: usize,
    /// Bytes of output.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 5_000_000, depth: 100, output: 16 << 20 }
    }
}

impl Template {
    /// Runs the template with `data` as its dot and as `$`.
    ///
    /// # Errors
    /// `template: NAME:LINE:COLUMN: executing "NAME" at <...>: what is wrong`, also when a limit is reached.
    pub fn execute(&self, data: &Value, functions: &dyn Functions, limits: Limits) -> Result<String, Error> {
        let run = Run { template: self, functions, limits, steps: std::cell::Cell::new(0) };
        let mut out = String::new();
        run.named(self.name(), data, 0, &mut out)?;
        Ok(out)
    }
}

struct Run<'a> {
    template: &'a Template,
    functions: &'a dyn Functions,
    limits: Limits,
    steps: std::cell::Cell<usize>,
}

/// One template being executed.
struct Frame<'a> {
    run: &'a Run<'a>,
    source: &'a Source,
    name: &'a str,
    depth: usize,
    variables: Vec<(String, Value)>,
}

enum Flow {
    On,
    Break,
    Continue,
}

struct FrameCaller<'a> {
    run: &'a Run<'a>,
    depth: usize,
}

impl Caller for FrameCaller<'_> {
    fn template(&self, name: &str, data: &Value) -> Result<String, String> {
        let mut out = String::new();
        self.run.named(name, data, self.depth + 1, &mut out).map_err(|e| e.to_string())?;
        Ok(out)
    }
}

impl Run<'_> {
    fn named(&self, name: &str, data: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let source =
            self.template.templates.get_key_value(name).ok_or_else(|| {
                Error(format!("{}: template {} not defined", self.template.name(), model::quote(name)))
            })?;
        let mut frame = Frame {
            run: self,
            source: source.1,
            name: source.0,
            depth,
            variables: vec![("$".to_owned(), data.clone())],
        };
        frame.nodes(&source.1.nodes, data, out).map(|_| ())
    }
}

impl Frame<'_> {
    fn fault(&self, pos: Pos, at: &str, message: &str) -> Error {
        let (file, text) = &*self.source.file;
        let before = &text[..pos.min(text.len())];
        let line = 1 + before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |p| p + 1);
        Error(format!("{file}:{line}:{column}: executing {} at <{at}>: {message}", model::quote(self.name)))
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value, out: &mut String) -> Result<Flow, Error> {
        for node in nodes {
            match self.node(node, dot, out)? {
                Flow::On => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value, out: &mut String) -> Result<Flow, Error> {
        self.run.steps.set(self.run.steps.get() + 1);
        if self.run.steps.get() > self.run.limits.steps {
            return Err(self.fault(0, "", "it takes too many steps"));
        }
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    out.push_str(&value.to_string());
                }
            }
            Node::If { condition, body, otherwise } => {
                let scope = self.variables.len();
                let chosen = if self.pipeline(condition, dot)?.is_true() { body } else { otherwise };
                let flow = self.nodes(chosen, dot, out);
                self.variables.truncate(scope);
                return flow;
            }
            Node::With { condition, body, otherwise } => {
                let scope = self.variables.len();
                let value = self.pipeline(condition, dot)?;
                let flow =
                    if value.is_true() { self.nodes(body, &value, out) } else { self.nodes(otherwise, dot, out) };
                self.variables.truncate(scope);
                return flow;
            }
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot, out),
            Node::Template { name, argument, pos } => {
                if self.depth >= self.run.limits.depth {
                    return Err(self.fault(*pos, name, "exceeded maximum template depth"));
                }
                let data = match argument {
                    Some(pipeline) => self.pipeline(pipeline, dot)?,
                    None => Value::Nil,
                };
                self.run.named(name, &data, self.depth + 1, out)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        if out.len() > self.run.limits.output {
            return Err(self.fault(0, "", "its output is too large"));
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        over: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
        out: &mut String,
    ) -> Result<Flow, Error> {
        let scope = self.variables.len();
        let value = self.commands(over, dot)?;
        let items: Vec<(Value, Value)> = match &value {
            Value::Nil => Vec::new(),
            Value::List(items) => (0..).map(Value::Int).zip(items.iter().cloned()).collect(),
            Value::Map(map) => map.iter().map(|(k, v)| (Value::text(k), v.clone())).collect(),
            Value::Labels(labels) => {
                labels.iter().map(|(name, value)| (Value::text(name), Value::text(value))).collect()
            }
            Value::Int(n) if *n > self.run.limits.steps as i64 => {
                return Err(self.fault(over.pos, &source_of(over), "it takes too many steps"));
            }
            Value::Int(n) => (0..*n).map(|i| (Value::Int(i), Value::Int(i))).collect(),
            Value::Object(o) if o.elements().is_some() => {
                (0..).map(Value::Int).zip(o.elements().unwrap_or_default()).collect()
            }
            other => {
                return Err(self.fault(over.pos, &source_of(over), &format!("range can't iterate over {other}")));
            }
        };
        let flow = if items.is_empty() {
            self.nodes(otherwise, dot, out)?
        } else {
            for (key, item) in items {
                self.variables.truncate(scope);
                match (over.variables.as_slice(), over.assigns) {
                    ([], _) => {}
                    ([one], false) => self.variables.push((one.clone(), item.clone())),
                    ([first, second, ..], false) => {
                        self.variables.push((first.clone(), key));
                        self.variables.push((second.clone(), item.clone()));
                    }
                    ([one], true) => self.assign(one, item.clone()),
                    ([first, second, ..], true) => {
                        self.assign(first, key);
                        self.assign(second, item.clone());
                    }
                }
                if let Flow::Break = self.nodes(body, &item, out)? {
                    break;
                }
            }
            Flow::On
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn assign(&mut self, name: &str, value: Value) {
        if let Some(slot) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            slot.1 = value;
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.assign(name, value.clone());
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Error> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &Command, dot: &Value, piped: Option<Value>) -> Result<Value, Error> {
        let (first, rest) = command.operands.split_first().expect("the parser makes no empty command");
        let has_args = !rest.is_empty() || piped.is_some();
        let fault = |frame: &Self, message: &str| frame.fault(command.pos, &command.source, message);
        match first {
            Operand::Function(name) if name == "and" || name == "or" => {
                self.short_circuit(name == "and", rest, dot, piped).transpose().unwrap_or_else(|| {
                    Err(fault(self, &format!("wrong number of args for {name}: want at least 1 got 0")))
                })
            }
            Operand::Function(name) => {
                let args = self.arguments(rest, dot, piped)?;
                let result = if self.run.functions.has(name) {
                    self.run.functions.call(name, &args, &FrameCaller { run: self.run, depth: self.depth })
                } else {
                    builtins::call(name, &args)
                };
                result.map_err(|m| fault(self, &format!("error calling {name}: {m}")))
            }
            Operand::Field(path) => {
                let args = self.arguments(rest, dot, piped)?;
                fields(dot.clone(), path, &args).map_err(|m| fault(self, &m))
            }
            Operand::Variable(name, path) if !path.is_empty() => {
                let args = self.arguments(rest, dot, piped)?;
                fields(self.variable(name), path, &args).map_err(|m| fault(self, &m))
            }
            Operand::Group(inner, path) if !path.is_empty() => {
                let args = self.arguments(rest, dot, piped)?;
                let value = self.pipeline(inner, dot)?;
                fields(value, path, &args).map_err(|m| fault(self, &m))
            }
            other if has_args => {
                let _ = other;
                Err(fault(self, &format!("can't give argument to non-function {}", command.source)))
            }
            Operand::Nil => Err(fault(self, "nil is not a command")),
            other => self.operand(other, dot),
        }
    }

    /// `and` and `or` evaluate their arguments only up to the one that decides.
    fn short_circuit(
        &mut self,
        is_and: bool,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Option<Value>, Error> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if value.is_true() != is_and {
                return Ok(Some(value));
            }
            last = Some(value);
        }
        Ok(piped.or(last))
    }

    fn arguments(&mut self, operands: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Vec<Value>, Error> {
        let mut args = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            args.push(self.operand(operand, dot)?);
        }
        args.extend(piped);
        Ok(args)
    }

    fn variable(&self, name: &str) -> Value {
        self.variables.iter().rev().find(|(n, _)| n == name).map_or(Value::Nil, |(_, v)| v.clone())
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, Error> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Value::Nil),
            Operand::Constant(value) => Ok(value.clone()),
            Operand::Variable(name, path) => fields(self.variable(name), path, &[])
                .map_err(|m| self.fault(0, &format!("{name}.{}", path.join(".")), &m)),
            Operand::Field(path) => {
                fields(dot.clone(), path, &[]).map_err(|m| self.fault(0, &format!(".{}", path.join(".")), &m))
            }
            Operand::Group(inner, path) => {
                let value = self.pipeline(inner, dot)?;
                fields(value, path, &[]).map_err(|m| self.fault(inner.pos, &source_of(inner), &m))
            }
            Operand::Function(name) => {
                let command = Command { operands: vec![Operand::Function(name.clone())], pos: 0, source: name.clone() };
                self.command(&command, dot, None)
            }
        }
    }
}

fn source_of(pipeline: &Pipeline) -> String {
    pipeline.commands.iter().map(|c| c.source.as_str()).collect::<Vec<_>>().join(" | ")
}

/// Follows a path of fields; arguments go to the last one.
fn fields(mut value: Value, path: &[String], args: &[Value]) -> Result<Value, String> {
    for (at, name) in path.iter().enumerate() {
        let given = if at + 1 == path.len() { args } else { &[] };
        value = match &value {
            Value::Map(_) | Value::Labels(_) if !given.is_empty() => {
                return Err(format!("{name} is not a method but has arguments"));
            }
            Value::Map(map) => map.get(name).cloned().unwrap_or(Value::Nil),
            Value::Labels(labels) => Value::text(labels.value(name)),
            Value::Object(object) => match object.get(name, given) {
                Some(result) => result.map_err(|m| format!("error calling {name}: {m}"))?,
                None => return Err(format!("can't evaluate field {name} in type {}", object.type_name())),
            },
            Value::Nil => return Err(format!("nil data; no entry for key {}", model::quote(name))),
            other => return Err(format!("can't evaluate field {name} in type {}", other.type_name())),
        };
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shout;

    impl Functions for Shout {
        fn has(&self, name: &str) -> bool {
            name == "shout" || name == "include"
        }

        fn call(&self, name: &str, args: &[Value], caller: &dyn Caller) -> Result<Value, String> {
            match (name, args) {
                ("include", [name, data]) => Ok(Value::from(caller.template(&name.to_string(), data)?)),
                ("shout", [text]) => Ok(Value::from(text.to_string().to_uppercase())),
                _ => Err("wrong arguments".to_owned()),
            }
        }
    }

    fn data() -> Value {
        let labels = Value::map([("instance", Value::from("host:9100")), ("job", Value::from("node"))]);
        Value::map([
            ("Labels", labels),
            ("Value", Value::from(0.25)),
            ("Texts", Value::Labels(model::Labels::from_pairs([("b", "2"), ("a", "x")]))),
            ("List", Value::list([Value::Int(1), Value::Int(2), Value::Int(3)])),
            ("Empty", Value::list([])),
        ])
    }

    fn run(text: &str) -> Result<String, String> {
        let template = Template::parse("t", text, &|n| Shout.has(n)).map_err(|e| e.to_string())?;
        template.execute(&data(), &Shout, Limits::default()).map_err(|e| e.to_string())
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(run(text), Ok(expected.to_owned()), "{text}");
    }

    fn check_fails(text: &str, expected: &str) {
        assert_eq!(run(text), Err(expected.to_owned()), "{text}");
    }

    #[test]
    fn text_and_trimming() {
        check("plain", "plain");
        check("a {{- \" b \" -}} c", "a b c");
        check("a{{/* note */}}b", "ab");
        check("a {{- /* note */ -}} b", "ab");
        check("{{`raw \\n`}}{{\"\\t\\u00e9\\x41\"}}", "raw \\n\téA");
    }

    #[test]
    fn fields_variables_and_pipelines() {
        check("{{.Labels.instance}} {{$.Value}}", "host:9100 0.25");
        check("{{$x := .Value}}{{$x}}{{$x = 3}}{{$x}}", "0.253");
        check("{{.Labels.job | shout}}", "NODE");
        check("{{shout (printf \"%s-%v\" .Labels.job .Value)}}", "NODE-0.25");
        check("{{(index .List 1)}}{{index .Labels \"job\"}}", "2node");
        check("{{.Labels.missing}}", "<no value>");
        check("{{.Labels}}", "map[instance:host:9100 job:node]");
        check("{{with $x := .Value}}{{$x}}{{end}}", "0.25");
        check("{{len .List}} {{slice \"abcd\" 1 3}}", "3 bc");
    }

    #[test]
    fn what_a_map_of_texts_does_not_have_is_empty() {
        check("{{.Texts.a}}{{.Texts.none}}{{index .Texts \"b\"}}{{index .Texts \"none\"}}.", "x2.");
        check("{{with .Texts.none}}x{{else}}none{{end}} {{len .Texts.none}} {{eq .Texts.none \"\"}}", "none 0 true");
        check(
            "{{.Texts}} {{len .Texts}} {{printf \"%s %v\" .Texts .Texts}}",
            "map[a:x b:2] 2 map[a:x b:2] map[a:x b:2]",
        );
        check("{{range $k, $v := .Texts}}{{$k}}={{$v}};{{end}}{{if .Texts}}yes{{end}}", "a=x;b=2;yes");
        check_fails(
            "{{.Texts.a.b}}",
            "template: t:1:2: executing \"t\" at <.Texts.a.b>: can't evaluate field b in type string",
        );
    }

    #[test]
    fn control_structures() {
        check("{{if .Value}}yes{{else}}no{{end}}", "yes");
        check("{{if gt .Value 1.0}}a{{else if eq .Labels.job \"node\"}}b{{else}}c{{end}}", "b");
        check("{{range .List}}{{.}},{{end}}", "1,2,3,");
        check("{{range $i, $e := .List}}{{$i}}={{$e}} {{end}}", "0=1 1=2 2=3 ");
        check("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "instance=host:9100;job=node;");
        check("{{range .Empty}}x{{else}}none{{end}}", "none");
        check("{{range .List}}{{if eq . 2}}{{break}}{{end}}{{.}}{{end}}", "1");
        check("{{range .List}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{end}}", "13");
        check("{{range 3}}{{.}}{{end}}", "012");
        check("{{with .Empty}}x{{else with .Value}}{{.}}{{end}}", "0.25");
        check("{{if and .Value (not .Empty)}}{{or .Empty \"d\"}}{{end}}", "d");
    }

    #[test]
    fn definitions() {
        check("{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .Value}}", "<0.25>");
        check("{{block \"b\" .Labels}}{{.job}}{{end}}", "node");
        check("{{define \"x\"}}<{{.}}>{{end}}{{include \"x\" .Value | shout}}", "<0.25>");
    }

    #[test]
    fn predefined_functions() {
        check(
            "{{printf \"%.2f|%5d|%-4s|%q|%x|%t|%v|%%\" 1.5 3 \"ab\" \"q\" 255 true .List}}",
            "1.50|    3|ab  |\"q\"|ff|true|[1 2 3]|%",
        );
        check("{{print 1 2 \"a\" \"b\" 3}}|{{println 1 \"a\"}}", "1 2ab3|1 a\n");
        check("{{html \"<a>&\"}} {{urlquery \"a b&c\"}} {{js \"it's\"}}", "&lt;a&gt;&amp; a+b%26c it\\'s");
        check(
            "{{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{ge 1.5 1.0}} {{lt \"a\" \"b\"}}",
            "true true true true true true",
        );
    }

    #[test]
    fn faults_name_their_place() {
        check_fails("a\n{{nope}}", "template: t:2: function \"nope\" not defined");
        check_fails("{{if .Value}}", "template: t:1: unexpected EOF");
        check_fails("{{$y}}", "template: t:1: undefined variable \"$y\"");
        check_fails("{{", "template: t:1: unclosed action");
        check_fails("{{end}}", "template: t:1: unexpected {{end}}");
        check_fails("{{break}}", "template: t:1: {{break}} outside {{range}}");
        check_fails(
            "x {{.Value.Foo}}",
            "template: t:1:4: executing \"t\" at <.Value.Foo>: can't evaluate field Foo in type float64",
        );
        check_fails("{{template \"nope\"}}", "template: t: template \"nope\" not defined");
    }

    #[test]
    fn runaway_templates_end() {
        assert!(run("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}").is_err());
        assert!(run("{{range 100000000}}{{.}}{{end}}").is_err());
        assert!(run(&"{{if 1}}".repeat(100_000)).is_err());
        assert!(run(&format!("{{{{{}1}}}}", "(".repeat(100_000))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\{\\{|\\}\\}|[ .$|()\"a-z0-9:=,-]|if|range|end|else|with|\\PC){0,40}") {
            let _ = run(&text);
        }
    }
}
