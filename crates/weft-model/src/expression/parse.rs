//! Text → tree: a hand-written parser by precedence, bounded in length, depth and number of nodes.

use super::{
    Comparison, Conversion, EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX, ExpressionError, Method, Node,
    REGEX_COMPILED_BYTES_MAX, REGEX_PATTERN_BYTES_MAX,
};

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Text(String),
    Number(i64),
    Double(f64),
    Name(String),
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 21] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ",", ".", "?", ":", "+", "-", "{", "}"];

fn error(why: impl Into<String>) -> ExpressionError {
    ExpressionError(why.into())
}

pub(super) fn parse(text: &str) -> Result<Node, ExpressionError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(error(format!("it is longer than {EXPRESSION_BYTES_MAX} bytes")));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    if parser.tokens.len() > EXPRESSION_NODES_MAX {
        return Err(error(format!("it has more than {EXPRESSION_NODES_MAX} parts")));
    }
    let node = parser.choice()?;
    match parser.peek() {
        Token::End => Ok(node),
        other => Err(error(format!("{} is not expected here", words(other)))),
    }
}

/// `300ms`, `1.5s`, `2m`, `1h` in microseconds.
pub(super) fn duration(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let factor = match unit {
        "h" => 3.6e9,
        "m" => 6e7,
        "s" => 1e6,
        "ms" => 1e3,
        "us" => 1.0,
        _ => return None,
    };
    let value = number.parse::<f64>().ok()? * factor;
    (value.is_finite() && value.abs() < 9e18).then_some(value as i64)
}

fn words(token: &Token) -> String {
    match token {
        Token::Text(text) => format!("the text {text:?}"),
        Token::Number(n) => n.to_string(),
        Token::Double(n) => n.to_string(),
        Token::Name(name) => format!("{name:?}"),
        Token::Sign(sign) => format!("{sign:?}"),
        Token::End => "the end".into(),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, ExpressionError> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, used) = match first {
            '"' | '\'' => quoted(rest, first)?,
            'r' if rest[1..].starts_with(['"', '\'']) => raw(rest)?,
            '0'..='9' => number(rest)?,
            c if c.is_ascii_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                (Token::Name(rest[..end].to_owned()), end)
            }
            c => match SIGNS.iter().find(|s| rest.starts_with(**s)) {
                Some(sign) => (Token::Sign(sign), sign.len()),
                None => return Err(error(format!("{c:?} is not expected here"))),
            },
        };
        out.push(token);
        rest = rest[used..].trim_start();
    }
    out.push(Token::End);
    Ok(out)
}

fn number(rest: &str) -> Result<(Token, usize), ExpressionError> {
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
    let text = &rest[..end];
    let token = match text.contains('.') {
        true => text.parse().ok().map(Token::Double),
        false => text.parse().ok().map(Token::Number),
    };
    // `1u` is an unsigned number in CEL.
    let used = end + usize::from(rest[end..].starts_with('u'));
    token.map(|t| (t, used)).ok_or_else(|| error(format!("{text} is not a number")))
}

fn raw(rest: &str) -> Result<(Token, usize), ExpressionError> {
    let quote = rest.chars().nth(1).unwrap_or('"');
    let end = rest[2..].find(quote).ok_or_else(|| error("a text is not closed"))?;
    Ok((Token::Text(rest[2..2 + end].to_owned()), end + 3))
}

fn quoted(rest: &str, quote: char) -> Result<(Token, usize), ExpressionError> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((Token::Text(out), at + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(c @ ('\\' | '"' | '\'' | '?' | '`')) => out.push(c),
                Some(c) => return Err(error(format!("\\{c} is not an escape; write \\\\{c}, or r'…' for a pattern"))),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err(error("a text is not closed"))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

type Parsed = Result<Node, ExpressionError>;

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }
    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }
    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.at += usize::from(found);
        found
    }
    fn expect(&mut self, sign: &str) -> Result<(), ExpressionError> {
        match self.take(sign) {
            true => Ok(()),
            false => Err(error(format!("{sign:?} is missing before {}", words(self.peek())))),
        }
    }

    /// `a ? b : c`.
    fn choice(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > EXPRESSION_DEPTH_MAX {
            return Err(error(format!("it is nested deeper than {EXPRESSION_DEPTH_MAX}")));
        }
        let condition = self.or()?;
        let node = match self.take("?") {
            false => condition,
            true => {
                let yes = self.choice()?;
                self.expect(":")?;
                Node::Choose(Box::new(condition), Box::new(yes), Box::new(self.choice()?))
            }
        };
        self.depth -= 1;
        Ok(node)
    }
    fn or(&mut self) -> Parsed {
        let mut node = self.and()?;
        while self.take("||") {
            node = Node::Or(Box::new(node), Box::new(self.and()?));
        }
        Ok(node)
    }
    fn and(&mut self) -> Parsed {
        let mut node = self.relation()?;
        while self.take("&&") {
            node = Node::And(Box::new(node), Box::new(self.relation()?));
        }
        Ok(node)
    }
    fn relation(&mut self) -> Parsed {
        let left = self.sum()?;
        let how = match self.peek() {
            Token::Sign("==") => Comparison::Equal,
            Token::Sign("!=") => Comparison::Unequal,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            Token::Name(name) if name == "in" => {
                self.at += 1;
                return Ok(Node::In(Box::new(left), Box::new(self.sum()?)));
            }
            _ => return Ok(left),
        };
        self.at += 1;
        Ok(Node::Compare(how, Box::new(left), Box::new(self.sum()?)))
    }
    fn sum(&mut self) -> Parsed {
        let mut node = self.unary()?;
        while self.take("+") {
            node = Node::Add(Box::new(node), Box::new(self.unary()?));
        }
        Ok(node)
    }
    fn unary(&mut self) -> Parsed {
        let (mut not, mut minus) = (0, 0);
        loop {
            match () {
                () if self.take("!") => not += 1,
                () if self.take("-") => minus += 1,
                () => break,
            }
        }
        let mut node = self.member()?;
        if minus % 2 == 1 {
            node = Node::Minus(Box::new(node));
        }
        for _ in 0..if not > 0 { 2 - not % 2 } else { 0 } {
            node = Node::Not(Box::new(node));
        }
        Ok(node)
    }

    /// A value with `.name`, `['key']` and methods behind it.
    fn member(&mut self) -> Parsed {
        let mut node = self.primary()?;
        loop {
            if self.take(".") {
                let Token::Name(name) = self.next() else { return Err(error("a name is missing after \".\"")) };
                node = match (self.take("("), node) {
                    (true, node) => self.method(node, &name)?,
                    (false, Node::Name(before)) => Node::Name(format!("{before}.{name}")),
                    (false, _) => return Err(error(format!(".{name} of what is not a name"))),
                };
                // `request.headers.x` is `request.headers['x']`.
                if let Node::Name(name) = &node
                    && let Some((map, key)) = name.rsplit_once('.')
                    && super::MAPS.contains(&map)
                {
                    node = Node::Entry(map.to_owned(), Box::new(Node::Text(key.to_owned())));
                }
            } else if self.take("[") {
                let key = self.choice()?;
                self.expect("]")?;
                node = match node {
                    Node::Name(map) => Node::Entry(map, Box::new(key)),
                    _ => return Err(error("[…] of what is not a name")),
                };
            } else {
                return Ok(node);
            }
        }
    }

    fn method(&mut self, on: Node, name: &str) -> Parsed {
        let conversion = match name {
            "lowerAscii" => Some(Conversion::Lower),
            "size" => Some(Conversion::Size),
            _ => None,
        };
        if let Some(how) = conversion {
            self.expect(")")?;
            return Ok(Node::Convert(how, Box::new(on)));
        }
        let argument = self.choice()?;
        self.expect(")")?;
        let method = match name {
            "startsWith" => Method::StartsWith,
            "endsWith" => Method::EndsWith,
            "contains" => Method::Contains,
            "matches" => return matches(on, &argument),
            _ => return Err(error(format!("{name}() is not a method that Weft knows"))),
        };
        Ok(Node::Method(method, Box::new(on), Box::new(argument)))
    }

    fn primary(&mut self) -> Parsed {
        match self.next() {
            Token::Text(text) => Ok(Node::Text(text)),
            Token::Number(n) => Ok(Node::Number(n)),
            Token::Double(n) => Ok(Node::Double(n)),
            Token::Sign("(") => {
                let node = self.choice()?;
                self.expect(")")?;
                Ok(node)
            }
            Token::Sign("[") => {
                let mut list = Vec::new();
                while !self.take("]") {
                    list.push(self.choice()?);
                    if !self.take(",") {
                        self.expect("]")?;
                        break;
                    }
                }
                Ok(Node::List(list))
            }
            Token::Name(name) if self.take("(") => self.function(&name),
            Token::Name(name) => Ok(match name.as_str() {
                "true" => Node::Truth(true),
                "false" => Node::Truth(false),
                "null" => Node::Null,
                _ => Node::Name(name),
            }),
            other => Err(error(format!("{} is not expected here", words(&other)))),
        }
    }

    fn function(&mut self, name: &str) -> Parsed {
        let argument = self.choice()?;
        if name == "matches" {
            self.expect(",")?;
            let pattern = self.choice()?;
            self.expect(")")?;
            return matches(argument, &pattern);
        }
        self.expect(")")?;
        let how = match name {
            "has" => return Ok(Node::Has(Box::new(argument))),
            "string" => Conversion::Text,
            "int" | "uint" => Conversion::Number,
            "size" => Conversion::Size,
            "duration" => Conversion::Duration,
            _ => return Err(error(format!("{name}() is not a function that Weft knows"))),
        };
        Ok(Node::Convert(how, Box::new(argument)))
    }
}

fn matches(on: Node, pattern: &Node) -> Parsed {
    let text = pattern.literal().ok_or_else(|| error("matches() needs a pattern in quotes"))?;
    if text.len() > REGEX_PATTERN_BYTES_MAX {
        return Err(error(format!("a pattern is longer than {REGEX_PATTERN_BYTES_MAX} bytes")));
    }
    let built = regex::RegexBuilder::new(text).size_limit(REGEX_COMPILED_BYTES_MAX).build();
    built.map(|pattern| Node::Matches(Box::new(on), pattern)).map_err(|e| error(format!("a pattern is not legal: {e}")))
}
