//! What a proxy took over and cannot carry out, as a port that another program has.

use crate::limits::{PROBLEMS_MAX, REFUSAL_BYTES_MAX};
use weft_model::Origin;
use weft_proto::v1;

/// A part of an accepted configuration that does not work at a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// Name of the resource.
    pub resource: String,
    /// Path of the field inside the value.
    pub field: String,
    /// What does not work, in words.
    pub message: String,
    /// What to do; may be empty.
    pub fix: String,
    /// Where the user wrote it.
    pub origin: Origin,
}

impl From<&Problem> for v1::Problem {
    fn from(problem: &Problem) -> Self {
        let Problem { resource, field, message, fix, origin } = problem.clone();
        let Origin { kind, namespace, name, file, line, field: origin_field } = origin;
        let origin = Some(v1::Origin { kind, namespace, name, file, line, field: origin_field });
        Self { resource, field, message, fix, origin }
    }
}

/// Problems from the wire, bounded in number and size.
pub(crate) fn decode_problems(wire: v1::Problems) -> Vec<Problem> {
    wire.problems.into_iter().take(PROBLEMS_MAX).map(decode_problem).collect()
}

fn decode_problem(wire: v1::Problem) -> Problem {
    let origin = wire.origin.unwrap_or_default();
    Problem {
        resource: cut(wire.resource),
        field: cut(wire.field),
        message: cut(wire.message),
        fix: cut(wire.fix),
        origin: Origin {
            kind: cut(origin.kind),
            namespace: cut(origin.namespace),
            name: cut(origin.name),
            file: cut(origin.file),
            line: origin.line,
            field: cut(origin.field),
        },
    }
}

/// A text of a proxy, at the length that is kept.
pub(crate) fn cut(text: String) -> String {
    match text.char_indices().find(|(at, _)| *at >= REFUSAL_BYTES_MAX) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_survives_the_way_and_is_bounded() {
        let origin = Origin {
            kind: "Gateway".into(),
            namespace: "default".into(),
            name: "two".into(),
            file: "a.yaml".into(),
            line: 7,
            field: "f".into(),
        };
        let problem = Problem { resource: "r".into(), field: "x".into(), message: "m".into(), fix: "do".into(), origin };
        let there = |problems: Vec<v1::Problem>| decode_problems(v1::Problems { problems });
        assert_eq!(there(vec![(&problem).into()]), std::slice::from_ref(&problem));
        let long = Problem { message: "ä".repeat(REFUSAL_BYTES_MAX), ..problem };
        let kept = there(vec![(&long).into(); PROBLEMS_MAX + 1]);
        assert_eq!((kept.len(), kept[0].message.len()), (PROBLEMS_MAX, REFUSAL_BYTES_MAX));
    }
}
