//! Forms of Oracle's SQL that people bring along: named with what to write instead, before DataFusion says that it doesn't
//! know them.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Statement, Value,
    Visit, Visitor,
};

use crate::transform::files::location::span_start;
use crate::transform::files::{SqlError, SqlFile};

/// Functions, and what stands in their place.
const FUNCTIONS: [(&str, &str); 12] = [
    ("nvl2", "CASE WHEN x IS NOT NULL THEN a ELSE b END"),
    ("add_months", "x + INTERVAL '1 month' * n"),
    ("months_between", "a difference of times"),
    ("last_day", "date_trunc('month', x) + INTERVAL '1 month' - INTERVAL '1 day'"),
    ("listagg", "string_agg(x, ', ' ORDER BY ...)"),
    ("wm_concat", "string_agg(x, ',' ORDER BY ...)"),
    ("instr", "strpos(text, part)"),
    ("to_number", "CAST(x AS DECIMAL(p,s))"),
    ("regexp_substr", "regexp_match(text, pattern)[1]"),
    ("sys_extract_utc", "x AT TIME ZONE 'UTC'"),
    ("sys_guid", "a column of the source"),
    ("rownum", "SELECT DISTINCT ON (key), or LIMIT"),
];

/// Units of `TRUNC(time, unit)`, and those of `date_trunc`.
const UNITS: [(&[&str], &str); 7] = [
    (&["cc", "scc", "yyyy", "yyy", "yy", "y", "year", "syyyy", "syear"], "year"),
    (&["q"], "quarter"),
    (&["month", "mon", "mm", "rm"], "month"),
    (&["iw", "ww", "w"], "week"),
    (&["ddd", "dd", "j", "day"], "day"),
    (&["hh", "hh12", "hh24"], "hour"),
    (&["mi"], "minute"),
];

/// Refuses the first of these forms.
///
/// # Errors
/// With its place and what to write instead.
pub(crate) fn refuse(file: &SqlFile, statement: &Statement) -> Result<(), SqlError> {
    match statement.visit(&mut Search) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(Form { at, message }) => Err(file.error(at, message)),
    }
}

/// What a text that can't be parsed has of them.
pub(crate) fn advice(text: &str) -> Option<&'static str> {
    let squeezed: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    let has_word = |word: &str| {
        text.split(|letter: char| !letter.is_alphanumeric()).any(|it| it.eq_ignore_ascii_case(word))
    };
    if squeezed.contains("(+)") {
        Some("(+) is Oracle's outer join: write LEFT JOIN ... ON ...")
    } else if has_word("minus") {
        Some("MINUS is Oracle's: write EXCEPT")
    } else if has_word("connect") {
        Some("CONNECT BY is Oracle's: write WITH RECURSIVE")
    } else {
        None
    }
}

struct Form {
    at: Option<(u64, u64)>,
    message: String,
}

struct Search;

impl Visitor for Search {
    type Break = Form;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Form> {
        match expr {
            Expr::Identifier(ident) => identifier(ident),
            Expr::Function(function) => call(function),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn found(ident: &Ident, message: impl Into<String>) -> ControlFlow<Form> {
    ControlFlow::Break(Form { at: span_start(ident.span), message: message.into() })
}

fn identifier(ident: &Ident) -> ControlFlow<Form> {
    if ident.quote_style.is_some() {
        return ControlFlow::Continue(());
    }
    match ident.value.to_lowercase().as_str() {
        "sysdate" | "systimestamp" => found(
            ident,
            format!(
                "{} is Oracle's, and depends on when it runs, so that the result could not be computed again: use event \
                 times and watermark()",
                ident.value
            ),
        ),
        "rownum" => found(ident, "ROWNUM is Oracle's: write SELECT DISTINCT ON (key), or LIMIT"),
        _ => ControlFlow::Continue(()),
    }
}

fn call(function: &Function) -> ControlFlow<Form> {
    let [part] = function.name.0.as_slice() else { return ControlFlow::Continue(()) };
    let Some(ident) = part.as_ident() else { return ControlFlow::Continue(()) };
    let (name, arguments) = (ident.value.to_lowercase(), arguments(function));
    match (name.as_str(), arguments.as_slice()) {
        ("trunc", [time, Expr::Value(unit)]) => {
            let Value::SingleQuotedString(unit) = &unit.value else {
                return ControlFlow::Continue(());
            };
            let unit = unit.to_lowercase();
            let known = UNITS.iter().find(|(names, _)| names.contains(&unit.as_str()));
            let unit = known.map_or("...", |(_, unit)| unit);
            found(ident, format!("TRUNC of a time is Oracle's: write date_trunc('{unit}', {time})"))
        }
        ("decode", [_, _, _, ..]) => {
            found(ident, "DECODE is Oracle's: write CASE x WHEN a THEN b ... ELSE c END")
        }
        (name, _) => match FUNCTIONS.iter().find(|(known, _)| *known == name) {
            Some((_, instead)) => {
                found(ident, format!("{} is Oracle's: write {instead}", name.to_uppercase()))
            }
            None => ControlFlow::Continue(()),
        },
    }
}

fn arguments(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let expr = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().filter_map(expr).collect()
}
