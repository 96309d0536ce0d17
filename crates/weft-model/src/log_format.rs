//! The form of access log lines: text or JSON with Envoy's command operators, e.g. `%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):60%`.
//!
//! Parsing is here, so that the compiler says what is wrong with a format before a proxy gets it. Values are put in where records are.

use crate::limits::{LOG_FORMAT_BYTES_MAX, LOG_LABELS_MAX};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// A format. Serialised as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenFormat", into = "WrittenFormat")]
pub enum LogFormat {
    /// One line of text.
    Text(Vec<FormatPiece>),
    /// One JSON object per line: values by key.
    Json(BTreeMap<String, JsonValue>),
    /// Weft's own JSON, with the origin of every decision.
    Weft,
}

/// A value in a JSON log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonValue {
    /// A text with operators.
    Text(Vec<FormatPiece>),
    /// An object in it.
    Object(BTreeMap<String, JsonValue>),
}

/// A piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatPiece {
    /// As it is.
    Literal(String),
    /// A value of the request.
    Value {
        /// Which.
        operator: Operator,
        /// Longest value, in bytes.
        bytes_max: Option<usize>,
    },
}

/// Whose headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderSource {
    /// The request's.
    Request,
    /// The response's.
    Response,
    /// The response's trailers.
    Trailers,
}

/// Which part of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPart {
    /// All of it.
    Whole,
    /// Without the port.
    Host,
    /// The port alone.
    Port,
}

/// A command operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// `REQ`, `RESP`, `TRAILER`: a header, or another one when it is not there.
    Header {
        /// Whose.
        source: HeaderSource,
        /// Name, in lower case.
        name: String,
        /// Other name.
        or: Option<String>,
    },
    /// `REQ_WITHOUT_QUERY`.
    WithoutQuery(String),
    /// `START_TIME`, with a format of strftime; empty: RFC 3339 with milliseconds.
    StartTime(String),
    /// `DOWNSTREAM_REMOTE_ADDRESS` and its like.
    DownstreamRemote(AddressPart),
    /// `DOWNSTREAM_LOCAL_ADDRESS` and its like.
    DownstreamLocal(AddressPart),
    /// `UPSTREAM_REMOTE_ADDRESS`, `UPSTREAM_HOST`.
    UpstreamRemote(AddressPart),
    /// `UPSTREAM_LOCAL_ADDRESS`.
    UpstreamLocal(AddressPart),
    /// `GRPC_STATUS`: the name, `CAMEL_STRING` or `SNAKE_STRING`, or the number.
    GrpcStatus {
        /// As a number?
        number: bool,
        /// `DEADLINE_EXCEEDED` in place of `DeadlineExceeded`?
        snake: bool,
    },
    /// `ENVIRONMENT`.
    Environment(String),
    /// One without argument.
    Field(LogField),
}

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $($word:literal)|+),* $(,)?) => {
        /// An operator without argument.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum LogField { $($(#[$doc])* $variant,)* }
        impl LogField {
            fn find(word: &str) -> Option<Self> {
                match word { $($($word)|+ => Some(Self::$variant),)* _ => None }
            }
            /// The operator's word, the first where there are several.
            fn word(self) -> &'static str {
                match self { $(Self::$variant => [$($word),+][0],)* }
            }
        }
    };
}

fields! {
    /// Bytes of the request's body.
    BytesReceived = "BYTES_RECEIVED",
    /// Bytes of the response's body.
    BytesSent = "BYTES_SENT",
    /// HTTP version; empty for TCP.
    Protocol = "PROTOCOL",
    /// Status.
    ResponseCode = "RESPONSE_CODE",
    /// Why that status.
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS",
    /// Why the connection ended.
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS",
    /// Length in milliseconds.
    Duration = "DURATION",
    /// Time that the upstream took, in milliseconds.
    ResponseDuration = "RESPONSE_DURATION",
    /// Flags, short.
    ResponseFlags = "RESPONSE_FLAGS",
    /// Route.
    RouteName = "ROUTE_NAME",
    /// Cluster.
    UpstreamCluster = "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW",
    /// Attempts.
    AttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    /// Why there was no connection.
    TransportFailure = "UPSTREAM_TRANSPORT_FAILURE_REASON",
    /// Identity of the upstream.
    UpstreamPeer = "UPSTREAM_PEER_URI_SAN",
    /// TLS version towards the upstream.
    UpstreamTlsVersion = "UPSTREAM_TLS_VERSION",
    /// SNI.
    RequestedServerName = "REQUESTED_SERVER_NAME",
    /// Identity of the caller.
    DownstreamPeer = "DOWNSTREAM_PEER_URI_SAN",
    /// Own identity.
    DownstreamLocalPeer = "DOWNSTREAM_LOCAL_URI_SAN",
    /// TLS version towards the caller.
    DownstreamTlsVersion = "DOWNSTREAM_TLS_VERSION",
    /// W3C trace id.
    TraceId = "TRACE_ID",
    /// Id of the request.
    StreamId = "STREAM_ID",
    /// Name of the proxy.
    Hostname = "HOSTNAME",
}

/// As users write it and as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WrittenFormat {
    Text(String),
    Json(BTreeMap<String, serde_json::Value>),
    Weft,
}

/// Why a format is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(String);

impl LogFormat {
    /// Reads a text.
    ///
    /// # Errors
    /// When an operator is not known or not closed, or the text is too long.
    pub fn text(text: &str) -> Result<Self, FormatError> {
        pieces(text).map(Self::Text)
    }
    /// Reads values by key.
    ///
    /// # Errors
    /// As [`LogFormat::text`], and when a value is neither text nor an object.
    pub fn json(labels: &BTreeMap<String, serde_json::Value>) -> Result<Self, FormatError> {
        let mut left = LOG_LABELS_MAX;
        json_object(labels.iter(), &mut left, 0).map(Self::Json)
    }
    /// Istio's default text.
    pub fn istio_text() -> Self {
        Self::text(ISTIO_TEXT).unwrap_or(Self::Weft)
    }
    /// Istio's default JSON.
    pub fn istio_json() -> Self {
        let labels = ISTIO_JSON.iter().map(|(key, value)| ((*key).to_owned(), serde_json::Value::from(*value))).collect();
        Self::json(&labels).unwrap_or(Self::Weft)
    }
    /// Adds the headers that it reads to `names`.
    pub fn headers(&self, from: HeaderSource, names: &mut Vec<String>) {
        match self {
            Self::Text(pieces) => headers_of(pieces, from, names),
            Self::Json(labels) => labels.values().for_each(|v| v.headers(from, names)),
            Self::Weft => {}
        }
    }
}

impl JsonValue {
    fn headers(&self, from: HeaderSource, names: &mut Vec<String>) {
        match self {
            Self::Text(pieces) => headers_of(pieces, from, names),
            Self::Object(object) => object.values().for_each(|v| v.headers(from, names)),
        }
    }
}

fn headers_of(pieces: &[FormatPiece], from: HeaderSource, names: &mut Vec<String>) {
    for piece in pieces {
        match piece {
            FormatPiece::Value { operator: Operator::Header { source, name, or }, .. } if *source == from => {
                names.extend(std::iter::once(name).chain(or).filter(|n| !n.starts_with(':')).cloned());
            }
            FormatPiece::Value { operator: Operator::WithoutQuery(name), .. } if from == HeaderSource::Request => {
                names.extend((!name.starts_with(':')).then(|| name.clone()));
            }
            FormatPiece::Value { .. } | FormatPiece::Literal(_) => {}
        }
    }
}

/// Istio's default text (a line feed at its end).
const ISTIO_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \
\"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Istio's default JSON.
const ISTIO_JSON: [(&str, &str); 24] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// Deepest object in a JSON format.
const DEPTH_MAX: usize = 8;

fn json_object<'a>(
    fields: impl Iterator<Item = (&'a String, &'a serde_json::Value)>,
    left: &mut usize,
    depth: usize,
) -> Result<BTreeMap<String, JsonValue>, FormatError> {
    let mut object = BTreeMap::new();
    for (key, value) in fields {
        *left = left.checked_sub(1).filter(|_| depth < DEPTH_MAX).ok_or_else(|| FormatError("there are too many labels".into()))?;
        let value = match value {
            serde_json::Value::String(text) => JsonValue::Text(pieces(text)?),
            serde_json::Value::Object(inner) => JsonValue::Object(json_object(inner.iter(), left, depth + 1)?),
            _ => return Err(FormatError(format!("the value of {key:?} is neither text nor an object"))),
        };
        object.insert(key.clone(), value);
    }
    Ok(object)
}

fn pieces(text: &str) -> Result<Vec<FormatPiece>, FormatError> {
    if text.len() > LOG_FORMAT_BYTES_MAX {
        return Err(FormatError(format!("it is longer than {LOG_FORMAT_BYTES_MAX} bytes")));
    }
    let mut out: Vec<FormatPiece> = Vec::new();
    let literal = |out: &mut Vec<FormatPiece>, text: &str| match out.last_mut() {
        Some(FormatPiece::Literal(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => out.push(FormatPiece::Literal(text.to_owned())),
    };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        literal(&mut out, before);
        if let Some(after) = after.strip_prefix('%') {
            literal(&mut out, "%");
            rest = after;
            continue;
        }
        let (command, next) = command(after)?;
        out.push(value(command)?);
        rest = next;
    }
    literal(&mut out, rest);
    Ok(out)
}

/// Up to the closing `%`; an argument in parentheses may itself have `%` (a time's format).
fn command(text: &str) -> Result<(&str, &str), FormatError> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '%' if depth == 0 => return Ok((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    Err(FormatError(format!("the operator that begins with %{} is not closed", text.chars().take(24).collect::<String>())))
}

fn value(command: &str) -> Result<FormatPiece, FormatError> {
    let wrong = || FormatError(format!("%{command}% is not an operator that Weft knows"));
    let (word, argument, tail) = match command.split_once('(') {
        Some((word, rest)) => {
            let (argument, tail) = rest.rsplit_once(')').ok_or_else(wrong)?;
            (word, Some(argument), tail)
        }
        None => match command.split_once(':') {
            Some((word, _)) => (word, None, &command[word.len()..]),
            None => (command, None, ""),
        },
    };
    let bytes_max = match tail.strip_prefix(':') {
        Some(number) => Some(number.parse().map_err(|_| wrong())?),
        None if tail.is_empty() => None,
        None => return Err(wrong()),
    };
    let operator = operator(word, argument).ok_or_else(wrong)?;
    Ok(FormatPiece::Value { operator, bytes_max })
}

fn operator(word: &str, argument: Option<&str>) -> Option<Operator> {
    let header = |source| {
        let lower = argument?.to_ascii_lowercase();
        let (name, or) = match lower.split_once('?') {
            Some((name, or)) => (name.to_owned(), Some(or.to_owned())),
            None => (lower.clone(), None),
        };
        let legal = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;\\\"/[]?={}".contains(&b));
        (legal(&name) && or.as_deref().is_none_or(legal)).then_some(Operator::Header { source, name, or })
    };
    Some(match word {
        "REQ" => header(HeaderSource::Request)?,
        "RESP" => header(HeaderSource::Response)?,
        "TRAILER" => header(HeaderSource::Trailers)?,
        "REQ_WITHOUT_QUERY" => Operator::WithoutQuery(argument?.to_ascii_lowercase()),
        "START_TIME" => Operator::StartTime(argument.unwrap_or_default().to_owned()),
        "GRPC_STATUS" => match argument {
            None | Some("" | "CAMEL_STRING") => Operator::GrpcStatus { number: false, snake: false },
            Some("SNAKE_STRING") => Operator::GrpcStatus { number: false, snake: true },
            Some("NUMBER") => Operator::GrpcStatus { number: true, snake: false },
            Some(_) => return None,
        },
        "GRPC_STATUS_NUMBER" => Operator::GrpcStatus { number: true, snake: false },
        "ENVIRONMENT" => Operator::Environment(argument?.to_owned()),
        _ if argument.is_some() => return None,
        _ => match LogField::find(word) {
            Some(field) => Operator::Field(field),
            None => address(word)?,
        },
    })
}

fn address(word: &str) -> Option<Operator> {
    let (word, part) = match (word.strip_suffix("_WITHOUT_PORT"), word.strip_suffix("_PORT")) {
        (Some(word), _) => (word, AddressPart::Host),
        (None, Some(word)) => (word, AddressPart::Port),
        (None, None) => (word, AddressPart::Whole),
    };
    // `DOWNSTREAM_REMOTE_PORT` and `DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT` are what Envoy calls them.
    Some(match word.strip_suffix("_ADDRESS").unwrap_or(word) {
        "DOWNSTREAM_REMOTE" | "DOWNSTREAM_DIRECT_REMOTE" => Operator::DownstreamRemote(part),
        "DOWNSTREAM_LOCAL" => Operator::DownstreamLocal(part),
        "UPSTREAM_REMOTE" | "UPSTREAM_HOST" => Operator::UpstreamRemote(part),
        "UPSTREAM_LOCAL" => Operator::UpstreamLocal(part),
        _ => return None,
    })
}

impl TryFrom<WrittenFormat> for LogFormat {
    type Error = FormatError;
    fn try_from(written: WrittenFormat) -> Result<Self, FormatError> {
        match written {
            WrittenFormat::Text(text) => Self::text(&text),
            WrittenFormat::Json(labels) => Self::json(&labels),
            WrittenFormat::Weft => Ok(Self::Weft),
        }
    }
}

impl From<LogFormat> for WrittenFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text(pieces) => Self::Text(written(&pieces)),
            LogFormat::Json(labels) => Self::Json(labels.iter().map(|(k, v)| (k.clone(), v.written())).collect()),
            LogFormat::Weft => Self::Weft,
        }
    }
}

impl JsonValue {
    fn written(&self) -> serde_json::Value {
        match self {
            Self::Text(pieces) => serde_json::Value::from(written(pieces)),
            Self::Object(object) => serde_json::Value::Object(object.iter().map(|(k, v)| (k.clone(), v.written())).collect()),
        }
    }
}

fn written(pieces: &[FormatPiece]) -> String {
    pieces.iter().map(ToString::to_string).collect()
}

impl fmt::Display for FormatPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(&text.replace('%', "%%")),
            Self::Value { operator, bytes_max: None } => write!(f, "%{operator}%"),
            Self::Value { operator, bytes_max: Some(max) } => write!(f, "%{operator}:{max}%"),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &AddressPart, name: &str| match part {
            AddressPart::Whole => format!("{name}_ADDRESS"),
            AddressPart::Host => format!("{name}_ADDRESS_WITHOUT_PORT"),
            AddressPart::Port => format!("{name}_PORT"),
        };
        match self {
            Self::Header { source, name, or } => {
                let word = match source {
                    HeaderSource::Request => "REQ",
                    HeaderSource::Response => "RESP",
                    HeaderSource::Trailers => "TRAILER",
                };
                match or {
                    Some(or) => write!(f, "{word}({name}?{or})"),
                    None => write!(f, "{word}({name})"),
                }
            }
            Self::WithoutQuery(name) => write!(f, "REQ_WITHOUT_QUERY({name})"),
            Self::StartTime(format) if format.is_empty() => f.write_str("START_TIME"),
            Self::StartTime(format) => write!(f, "START_TIME({format})"),
            Self::DownstreamRemote(p) => f.write_str(&part(p, "DOWNSTREAM_REMOTE")),
            Self::DownstreamLocal(p) => f.write_str(&part(p, "DOWNSTREAM_LOCAL")),
            Self::UpstreamRemote(p) => f.write_str(&part(p, "UPSTREAM_REMOTE")),
            Self::UpstreamLocal(p) => f.write_str(&part(p, "UPSTREAM_LOCAL")),
            Self::GrpcStatus { number: true, .. } => f.write_str("GRPC_STATUS_NUMBER"),
            Self::GrpcStatus { snake: true, .. } => f.write_str("GRPC_STATUS(SNAKE_STRING)"),
            Self::GrpcStatus { .. } => f.write_str("GRPC_STATUS"),
            Self::Environment(name) => write!(f, "ENVIRONMENT({name})"),
            Self::Field(field) => f.write_str(field.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_and_read_again_as_the_same() {
        for text in [
            ISTIO_TEXT,
            "100%% of %REQ(X-A?:PATH):60% at %START_TIME(%Y-%m-%dT%H:%M:%S.%3f)% %DOWNSTREAM_REMOTE_PORT% %GRPC_STATUS(SNAKE_STRING)%",
            "%TRAILER(grpc-message):10%%ENVIRONMENT(HOME)%%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        ] {
            let format = LogFormat::text(text).expect(text);
            let json = serde_json::to_string(&format).expect("serialises");
            assert_eq!(serde_json::from_str::<LogFormat>(&json).expect(&json), format);
        }
        let labels = BTreeMap::from([("a".to_owned(), serde_json::json!("%DURATION%")), ("b".to_owned(), serde_json::json!({"c": "x"}))]);
        let format = LogFormat::json(&labels).expect("reads");
        let json = serde_json::to_string(&format).expect("serialises");
        assert_eq!(json, r#"{"json":{"a":"%DURATION%","b":{"c":"x"}}}"#);
        assert!(matches!(LogFormat::istio_json(), LogFormat::Json(labels) if labels.len() == 24));
    }

    #[test]
    fn what_is_not_an_operator_is_said() {
        for (text, word) in [
            ("%DYNAMIC_METADATA(a:b)%", "DYNAMIC_METADATA"),
            ("%REQ(%", "not closed"),
            ("%DURATION", "not closed"),
            ("%REQ()%", "REQ"),
            ("%REQ(A):x%", "REQ"),
            ("%Duration%", "Duration"),
            ("%GRPC_STATUS(LOUD)%", "LOUD"),
        ] {
            let error = LogFormat::text(text).expect_err(text).to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(LogFormat::text(&"x".repeat(LOG_FORMAT_BYTES_MAX + 1)).is_err());
    }
}
