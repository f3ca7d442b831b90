//! `${NAME}` in the values of a file, as compose files have it: `$NAME`, `${NAME}`,
//! `${NAME:-default}`, `${NAME-default}`, `${NAME:+other}`, `${NAME+other}`, `${NAME:?why}`,
//! `${NAME?why}`; `$$` is a dollar sign. Unlike there, a variable that is not set is an error:
//! an empty text in its place is seldom what was meant.

use crate::VariableError;

/// Defaults within defaults are followed so deep.
const MAX_DEPTH: usize = 8;

pub(super) fn interpolate(
    text: &str,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<String, VariableError> {
    replace(text, variables, 0)
}

fn replace(
    text: &str,
    variables: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, VariableError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let from = &rest[dollar..];
        let after = &from[1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end =
                closing(inner).filter(|_| depth < MAX_DEPTH).ok_or_else(|| malformed(from))?;
            out.push_str(&braced(&inner[..end], from, variables, depth)?);
            rest = &inner[end + 1..];
        } else {
            let (name, after) = split_name(after);
            if name.is_empty() {
                return Err(malformed(from));
            }
            out.push_str(&variables(name).ok_or_else(|| unset(name))?);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands between `${` and `}`.
fn braced(
    inner: &str,
    from: &str,
    variables: &dyn Fn(&str) -> Option<String>,
    depth: usize,
) -> Result<String, VariableError> {
    let (name, operation) = split_name(inner);
    if name.is_empty() {
        return Err(malformed(from));
    }
    let (empty_is_unset, operation) = match operation.strip_prefix(':') {
        Some(operation) => (true, operation),
        None => (false, operation),
    };
    let value = variables(name).filter(|value| !(empty_is_unset && value.is_empty()));
    let mut operation_chars = operation.chars();
    match (operation_chars.next(), value) {
        (None, value) if !empty_is_unset => value.ok_or_else(|| unset(name)),
        (Some('-'), None) | (Some('+'), Some(_)) => {
            replace(operation_chars.as_str(), variables, depth + 1)
        }
        (Some('-' | '?'), Some(value)) => Ok(value),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let why = match operation_chars.as_str() {
                "" => "the file says so",
                why => why,
            };
            Err(VariableError::Required { name: name.to_owned(), why: why.to_owned() })
        }
        _ => Err(malformed(from)),
    }
}

fn split_name(text: &str) -> (&str, &str) {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return ("", text);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

/// Where the brace that is open closes, past those within.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut previous = ' ';
    for (index, c) in text.char_indices() {
        match c {
            '{' if previous == '$' => depth += 1,
            '}' if depth == 0 => return Some(index),
            '}' => depth -= 1,
            _ => {}
        }
        previous = c;
    }
    None
}

fn malformed(from: &str) -> VariableError {
    VariableError::Malformed { text: from.to_owned() }
}

fn unset(name: &str) -> VariableError {
    VariableError::Unset { name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "USER" => Some("ada".to_owned()),
            "EMPTY" => Some(String::new()),
            "_p1" => Some("$USER".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$USER", "ada"),
            ("${USER}s and $USER.", "adas and ada."),
            ("$$USER $$", "$USER $"),
            ("${_p1}", "$USER"),
            ("${NONE:-x}${NONE-y}", "xy"),
            ("<${EMPTY:-x}|${EMPTY-y}|${EMPTY}>", "<x||>"),
            ("${USER:-x}${USER-y}", "adaada"),
            ("${NONE:-${USER}}", "ada"),
            ("${NONE:-a ${NONE:-b {c} } d}", "a b {c  d}"),
            ("<${USER:+set}|${EMPTY:+set}|${EMPTY+set}|${NONE+set}>", "<set||set|>"),
            ("${USER:?why}${USER?why}", "adaada"),
            ("${NONE:-$$5}", "$5"),
        ] {
            assert_eq!(interpolate(text, &variables).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn faults_are_told() {
        for (text, expected) in [
            ("$NONE", "variable NONE is not set"),
            ("${NONE}", "variable NONE is not set"),
            ("${NONE:?no database}", "variable NONE is required: \"no database\""),
            ("${EMPTY:?}", "variable EMPTY is required: \"the file says so\""),
            ("a $(date)", "\"$(date)\" is not a variable"),
            ("a ${USER", "\"${USER\" is not a variable"),
            ("${}", "\"${}\" is not a variable"),
            ("${USER:}", "\"${USER:}\" is not a variable"),
            ("${USER!}", "\"${USER!}\" is not a variable"),
            ("${1}", "\"${1}\" is not a variable"),
            ("$1", "\"$1\" is not a variable"),
            ("5$", "\"$\" is not a variable"),
        ] {
            assert_eq!(interpolate(text, &variables).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn endless_nesting_is_refused() {
        let text = format!("{}x{}", "${N:-".repeat(5000), "}".repeat(5000));
        assert!(matches!(interpolate(&text, &variables), Err(VariableError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[${}:?+\\-A-Z_é ]{0,40}") {
            let _ = interpolate(&text, &variables);
        }

        #[test]
        fn doubled_dollars_come_out_as_they_were(text in "\\PC*") {
            prop_assert_eq!(interpolate(&text.replace('$', "$$"), &variables), Ok(text));
        }
    }
}
