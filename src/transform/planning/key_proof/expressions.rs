//! What expressions over the columns of a node keep of what is known of these.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{Between, InList, Like, ScalarFunction};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use datafusion::scalar::ScalarValue;

use super::dependencies::Columns;
use super::facts::Facts;

/// Functions that give NULL only where an argument is NULL, for all values that they are meant for.
const STRICT: [&str; 32] = [
    "abs",
    "btrim",
    "ceil",
    "char_length",
    "character_length",
    "chr",
    "date_bin",
    "date_part",
    "date_trunc",
    "floor",
    "initcap",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "octet_length",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sha256",
    "strpos",
    "substr",
    "to_char",
    "to_timestamp",
    "trim",
    "trunc",
    "upper",
];

/// The column that an expression is, maybe under another name or in a wider type.
pub(super) fn column(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.index_of_column(column).ok(),
        Expr::Alias(alias) => column(&alias.expr, schema),
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema).ok()?;
            let to = cast.field.data_type();
            let is_text = DataType::is_string;
            let keeps_values = from == *to
                || (is_text(&from) && is_text(to))
                || (from.is_integer() && (is_text(to) || is_wider(&from, to)));
            if keeps_values { column(&cast.expr, schema) } else { None }
        }
        _ => None,
    }
}

fn is_wider(from: &DataType, to: &DataType) -> bool {
    let width = DataType::primitive_width;
    to.is_signed_integer() && from.is_signed_integer() && width(to) >= width(from)
}

/// The value of an expression that has no column.
pub(super) fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Alias(alias) => constant(&alias.expr),
        Expr::Cast(cast) => constant(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        _ => None,
    }
}

/// The two columns of `coalesce(a, b)`, however it is written.
pub(super) fn coalesced(expr: &Expr, schema: &DFSchema) -> Option<(usize, usize)> {
    match expr {
        Expr::Alias(alias) => coalesced(&alias.expr, schema),
        Expr::Cast(cast) => coalesced(&cast.expr, schema),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "coalesce" => {
            let [one, other] = args.as_slice() else { return None };
            Some((column(one, schema)?, column(other, schema)?))
        }
        Expr::Case(case) => {
            let (None, [(when, then)], Some(otherwise)) =
                (&case.expr, case.when_then_expr.as_slice(), &case.else_expr)
            else {
                return None;
            };
            let Expr::IsNotNull(tested) = &**when else { return None };
            let (one, other) = (column(then, schema)?, column(otherwise, schema)?);
            (column(tested, schema) == Some(one)).then_some((one, other))
        }
        _ => None,
    }
}

/// The columns that an expression reads; `None` if its value depends on more than these.
pub(super) fn reads(expr: &Expr, schema: &DFSchema) -> Option<Columns> {
    let has_subquery = |expr: &Expr| {
        matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
        )
    };
    if expr.exists(|inner| Ok(has_subquery(inner))).unwrap_or(true) {
        return None;
    }
    expr.column_refs().into_iter().map(|column| schema.index_of_column(column).ok()).collect()
}

/// Whether an expression is never NULL.
pub(super) fn is_not_null(expr: &Expr, schema: &DFSchema, facts: &Facts) -> bool {
    let all = |exprs: &[&Expr]| exprs.iter().all(|expr| is_not_null(expr, schema, facts));
    match expr {
        Expr::Column(column) => {
            let at = schema.index_of_column(column).ok();
            at.is_some_and(|at| facts.not_null.contains(&at))
        }
        Expr::Alias(alias) => all(&[&alias.expr]),
        Expr::Cast(cast) => all(&[&cast.expr]),
        Expr::Negative(inner) | Expr::Not(inner) => all(&[inner]),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => true,
            _ if is_strict_operator(*op) => all(&[left, right]),
            _ => false,
        },
        Expr::Case(case) => {
            let Some(otherwise) = &case.else_expr else { return false };
            // What holds where no branch before was taken.
            let mut left = facts.clone();
            for (when, then) in &case.when_then_expr {
                let mut taken = left.clone();
                if case.expr.is_none() {
                    hold(when, schema, &mut taken);
                }
                if !is_not_null(then, schema, &taken) {
                    return false;
                }
                if let (None, Expr::IsNull(tested)) = (&case.expr, &**when) {
                    mark_not_null(tested, schema, &mut left);
                }
            }
            is_not_null(otherwise, schema, &left)
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => match func.name() {
            "coalesce" | "nvl" | "greatest" | "least" | "concat" => {
                let is_concat = func.name() == "concat";
                is_concat || args.iter().any(|arg| is_not_null(arg, schema, facts))
            }
            name if STRICT.contains(&name) => all(&args.iter().collect::<Vec<_>>()),
            _ => false,
        },
        other => other.nullable(schema).is_ok_and(|nullable| !nullable),
    }
}

/// Operators that give NULL only for NULL.
fn is_strict_operator(op: Operator) -> bool {
    use Operator::{
        Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Plus, StringConcat,
    };
    matches!(
        op,
        Eq | NotEq
            | Lt
            | LtEq
            | Gt
            | GtEq
            | Plus
            | Minus
            | Multiply
            | Divide
            | Modulo
            | StringConcat
    )
}

/// What holds for the rows for which a condition is true.
pub(super) fn hold(condition: &Expr, schema: &DFSchema, facts: &mut Facts) {
    for part in split_conjunction(condition) {
        if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) = part {
            hold_either(left, right, schema, facts);
            continue;
        }
        for expr in not_null_if_true(part) {
            mark_not_null(expr, schema, facts);
        }
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { continue };
        match (column(left, schema), column(right, schema)) {
            (Some(one), Some(other)) => facts.add_equal(one, other),
            (Some(at), None) => note_constant(at, right, facts),
            (None, Some(at)) => note_constant(at, left, facts),
            (None, None) => {}
        }
    }
}

/// What holds whichever of two conditions is true.
fn hold_either(one: &Expr, other: &Expr, schema: &DFSchema, facts: &mut Facts) {
    let (mut of_one, mut of_other) = (facts.clone(), facts.clone());
    hold(one, schema, &mut of_one);
    hold(other, schema, &mut of_other);
    facts.not_null.extend(of_one.not_null.intersection(&of_other.not_null));
}

fn note_constant(at: usize, expr: &Expr, facts: &mut Facts) {
    if let Some(value) = constant(expr) {
        facts.constants.insert(at, value);
    }
}

/// What is not NULL where a condition is true.
fn not_null_if_true(condition: &Expr) -> Vec<&Expr> {
    match condition {
        Expr::IsNotNull(inner) | Expr::IsTrue(inner) | Expr::IsFalse(inner) => vec![inner],
        Expr::IsNotUnknown(inner) | Expr::Not(inner) => match &**inner {
            Expr::IsNull(inner) => vec![inner],
            inner if !matches!(inner, Expr::IsNotNull(_)) => vec![inner],
            _ => Vec::new(),
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            vec![left, right]
        }
        Expr::Like(Like { expr, pattern, .. }) => vec![expr, pattern],
        Expr::Between(Between { expr, low, high, negated: false }) => vec![expr, low, high],
        Expr::InList(InList { expr, .. }) => vec![expr],
        Expr::Column(_) => vec![condition],
        _ => Vec::new(),
    }
}

fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
    )
}

/// The columns of an expression that is not NULL, as far as one NULL among them would make it so.
fn mark_not_null(expr: &Expr, schema: &DFSchema, facts: &mut Facts) {
    match expr {
        Expr::Column(column) => facts.not_null.extend(schema.index_of_column(column).ok()),
        Expr::Alias(alias) => mark_not_null(&alias.expr, schema, facts),
        Expr::Cast(cast) => mark_not_null(&cast.expr, schema, facts),
        Expr::TryCast(cast) => mark_not_null(&cast.expr, schema, facts),
        Expr::Negative(inner) | Expr::Not(inner) => mark_not_null(inner, schema, facts),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_strict_operator(*op) => {
            mark_not_null(left, schema, facts);
            mark_not_null(right, schema, facts);
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if STRICT.contains(&func.name()) => {
            args.iter().for_each(|arg| mark_not_null(arg, schema, facts));
        }
        _ => {}
    }
}
