use crate::ast::Pos;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Text(String),
    Open,
    Close,
    /// A word: keyword, function, `true`, `nil`.
    Word(String),
    /// `.name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    Dot,
    Number(String),
    /// A string with escapes resolved.
    Str(String),
    Char(char),
    Pipe,
    LeftParen,
    RightParen,
    Comma,
    Declare,
    Assign,
    Space,
}

/// Splits template text into tokens with their byte offsets.
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, Pos)>, (String, Pos)> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let Some(open) = text[at..].find("{{").map(|o| o + at) else {
            push_text(&mut out, &text[at..], at);
            break;
        };
        let trim_left = is_left_trim(&text[open + 2..]);
        let before = &text[at..open];
        push_text(&mut out, if trim_left { before.trim_end_matches(SPACES) } else { before }, at);
        let inside = open + 2 + if trim_left { 2 } else { 0 };
        let (end, trim_right) = if text[inside..].starts_with("/*") {
            comment(text, inside)?
        } else {
            out.push((Token::Open, open));
            let end = action(text, inside, &mut out)?;
            out.push((Token::Close, end.0));
            end
        };
        at = end + 2;
        if trim_right {
            at += text[at..].len() - text[at..].trim_start_matches(SPACES).len();
        }
    }
    Ok(out)
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

/// `- ` right after `{{`.
fn is_left_trim(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|r| r.starts_with(SPACES))
}

fn push_text(out: &mut Vec<(Token, Pos)>, text: &str, at: Pos) {
    if !text.is_empty() {
        out.push((Token::Text(text.to_owned()), at));
    }
}

/// A comment starting at `at`; returns the offset of its `}}` and whether it trims.
fn comment(text: &str, at: Pos) -> Result<(Pos, bool), (String, Pos)> {
    let end = text[at..].find("*/").ok_or_else(|| ("unclosed comment".to_owned(), at))? + at + 2;
    let rest = &text[end..];
    if rest.starts_with("}}") {
        return Ok((end, false));
    }
    let spaces = rest.len() - rest.trim_start_matches(SPACES).len();
    if spaces > 0 && rest[spaces..].starts_with("-}}") {
        return Ok((end + spaces + 1, true));
    }
    Err(("comment ends before closing delimiter".to_owned(), at))
}

/// Reads the inside of an action up to its `}}`; returns that offset and whether it trims.
fn action(text: &str, start: Pos, out: &mut Vec<(Token, Pos)>) -> Result<(Pos, bool), (String, Pos)> {
    let mut at = start;
    let mut depth = 0usize;
    loop {
        let rest = &text[at..];
        let Some(c) = rest.chars().next() else { return Err(("unclosed action".to_owned(), at)) };
        if rest.starts_with("}}") {
            if depth > 0 {
                return Err(("unclosed left paren".to_owned(), at));
            }
            return Ok((at, false));
        }
        let here = at;
        let mut push = |token, len: usize| {
            out.push((token, here));
            at = here + len;
        };
        match c {
            ' ' | '\t' | '\r' | '\n' => {
                let len = rest.len() - rest.trim_start_matches(SPACES).len();
                if rest[len..].starts_with("-}}") {
                    return Ok((here + len + 1, true));
                }
                push(Token::Space, len);
            }
            '(' => {
                depth += 1;
                push(Token::LeftParen, 1);
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or_else(|| ("unexpected right paren".to_owned(), here))?;
                push(Token::RightParen, 1);
            }
            '|' => push(Token::Pipe, 1),
            ',' => push(Token::Comma, 1),
            ':' if rest.starts_with(":=") => push(Token::Declare, 2),
            '=' => push(Token::Assign, 1),
            '"' => {
                let (value, len) = quoted(rest).map_err(|m| (m, here))?;
                push(Token::Str(value), len);
            }
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| ("unterminated raw quoted string".to_owned(), here))?;
                push(Token::Str(rest[1..=end].to_owned()), end + 2);
            }
            '\'' => {
                let (value, len) =
                    quoted(rest).map_err(|m| (m.replace("quoted string", "character constant"), here))?;
                let mut chars = value.chars();
                match (chars.next(), chars.next()) {
                    (Some(only), None) => push(Token::Char(only), len),
                    _ => return Err((format!("malformed character constant: {}", &rest[..len]), here)),
                }
            }
            '$' => {
                let len = 1 + word_len(&rest[1..]);
                push(Token::Variable(rest[..len].to_owned()), len);
            }
            '.' if !rest[1..].starts_with(|d: char| d.is_ascii_digit()) => {
                let len = word_len(&rest[1..]);
                if len == 0 { push(Token::Dot, 1) } else { push(Token::Field(rest[1..=len].to_owned()), len + 1) }
            }
            '0'..='9' | '+' | '-' | '.' => {
                let len = number_len(rest);
                push(Token::Number(rest[..len].to_owned()), len);
            }
            c if c.is_alphabetic() || c == '_' => {
                let len = word_len(rest);
                push(Token::Word(rest[..len].to_owned()), len);
            }
            other => return Err((format!("unexpected {other:?} in command", other = other.to_string()), here)),
        }
    }
}

fn word_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

fn number_len(text: &str) -> usize {
    let mut previous = ' ';
    text.char_indices()
        .find(|&(at, c)| {
            let sign = (c == '+' || c == '-') && (at == 0 || matches!(previous, 'e' | 'E' | 'p' | 'P'));
            previous = c;
            !(sign || c.is_ascii_alphanumeric() || c == '.' || c == '_')
        })
        .map_or(text.len(), |(at, _)| at)
}

/// A Go string or character literal at the start of `text`: its value and its length in bytes.
fn quoted(text: &str) -> Result<(String, usize), String> {
    let quote = text.as_bytes()[0] as char;
    let mut bytes: Vec<u8> = Vec::new();
    let mut chars = text.char_indices().skip(1);
    let unterminated = || "unterminated quoted string".to_owned();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => {
                let value = String::from_utf8_lossy(&bytes).into_owned();
                return Ok((value, at + 1));
            }
            '\n' => return Err(unterminated()),
            '\\' => {
                let (_, escape) = chars.next().ok_or_else(unterminated)?;
                let mut code = |digits: usize, radix: u32, first: Option<char>| -> Result<u32, String> {
                    let mut text: String = first.into_iter().collect();
                    while text.len() < digits {
                        text.push(chars.next().ok_or_else(unterminated)?.1);
                    }
                    u32::from_str_radix(&text, radix).map_err(|_| format!("invalid escape \\{escape}{text}"))
                };
                let simple = match escape {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' => b'\\',
                    c if c == quote => quote as u8,
                    'x' => code(2, 16, None)? as u8,
                    '0'..='7' => {
                        u8::try_from(code(3, 8, Some(escape))?).map_err(|_| "octal escape above 255".to_owned())?
                    }
                    'u' | 'U' => {
                        let value = code(if escape == 'u' { 4 } else { 8 }, 16, None)?;
                        let c = char::from_u32(value).ok_or_else(|| format!("invalid code point {value:#x}"))?;
                        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        continue;
                    }
                    other => return Err(format!("invalid escape \\{other}")),
                };
                bytes.push(simple);
            }
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(unterminated())
}
