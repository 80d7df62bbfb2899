//! The subset of XPath that rows and columns are found by.

/// How a step goes down from an element: to a child of that name, or to any element below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::xml) struct PathStep {
    pub(in crate::xml) is_deep: bool,
    /// The local name; `None` for `*`.
    pub(in crate::xml) name: Option<Box<[u8]>>,
    /// `phone[2]`: which of the children that match.
    pub(in crate::xml) position: Option<u32>,
}

impl PathStep {
    pub(in crate::xml) fn matches(&self, name: &[u8]) -> bool {
        self.name.as_deref().is_none_or(|own| own == name)
    }
}

/// What of an element is the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::xml) enum ValuePart {
    Attribute(Box<[u8]>),
    /// `text()`: its own text, down to its first child.
    OwnText,
    /// All text in it.
    AllText,
}

/// Where a column is, seen from the element of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::xml) struct ColumnPath {
    /// How many levels up first.
    pub(in crate::xml) up: usize,
    pub(in crate::xml) steps: Vec<PathStep>,
    pub(in crate::xml) part: ValuePart,
}

/// As in `.//item`, `//item`, `/order/items/item`, `items/item[1]`, `/order/*`.
///
/// # Errors
/// What is wrong, in words.
pub(in crate::xml) fn row_path(text: &str) -> Result<Vec<PathStep>, String> {
    let text = text.trim();
    let relative = text.strip_prefix('.').filter(|rest| rest.starts_with('/')).unwrap_or(text);
    let relative = match relative.strip_prefix('/') {
        // One slash is the document itself, two are anything below it.
        Some(rest) if !rest.starts_with('/') => rest,
        _ => relative,
    };
    let steps = steps(relative).map_err(|problem| format!("'{text}' {problem}"))?;
    if steps.is_empty() {
        return Err(format!("'{text}' names no element, as .//item does"));
    }
    Ok(steps)
}

/// One or more, as in `@unit_price | @price`: the first one that is there counts.
///
/// # Errors
/// What is wrong, in words.
pub(in crate::xml) fn column_paths(text: &str) -> Result<Vec<ColumnPath>, String> {
    text.split('|').map(column_path).collect()
}

/// As in `@id`, `name`, `street/text()`, `.`, `../@id`, `../../customer/name`, `phone[2]`, `.//city`.
///
/// # Errors
/// What is wrong, in words.
pub(in crate::xml) fn column_path(text: &str) -> Result<ColumnPath, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty; '.' is the text of the row's element".to_owned());
    }
    if text.starts_with('/') {
        let hint = "starts at the document: begin with a name, '@', '.' or '..'";
        return Err(format!("'{text}' {hint}"));
    }
    let (mut up, mut rest) = (0, text);
    while let Some(after) = rest.strip_prefix("..") {
        up += 1;
        rest = match after.strip_prefix('/') {
            Some(deeper) => deeper,
            None if after.is_empty() => after,
            None => return Err(format!("'{text}' has something behind '..' that is no '/'")),
        };
    }
    let rest = match rest.strip_prefix('.') {
        Some("") => "",
        Some(deeper) if deeper.starts_with("//") => deeper,
        Some(deeper) => deeper.strip_prefix('/').unwrap_or(rest),
        None => rest,
    };
    let (down, part) = split_part(rest).map_err(|problem| format!("'{text}' {problem}"))?;
    let steps = steps(down).map_err(|problem| format!("'{text}' {problem}"))?;
    Ok(ColumnPath { up, steps, part })
}

/// The steps' text, and what the last segment asks for.
fn split_part(rest: &str) -> Result<(&str, ValuePart), String> {
    let (down, last) = match rest.rfind('/') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => ("", rest),
    };
    match last.strip_prefix('@') {
        Some(_) if down.ends_with('/') => Err("looks for an attribute at any depth".to_owned()),
        Some(name) => Ok((down, ValuePart::Attribute(local(name)?.into()))),
        None if last == "text()" && !down.ends_with('/') => Ok((down, ValuePart::OwnText)),
        None => Ok((rest, ValuePart::AllText)),
    }
}

fn steps(text: &str) -> Result<Vec<PathStep>, String> {
    let (mut steps, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let is_deep = rest.starts_with("//");
        let from = if is_deep { &rest[2..] } else { rest };
        let end = from.find('/').unwrap_or(from.len());
        steps.push(step(&from[..end], is_deep)?);
        rest = &from[end..];
        if rest == "/" || rest == "//" {
            return Err("ends with '/'".to_owned());
        }
        if !rest.starts_with("//") {
            rest = rest.strip_prefix('/').unwrap_or(rest);
        }
    }
    Ok(steps)
}

fn step(text: &str, is_deep: bool) -> Result<PathStep, String> {
    let (name, position) = match text.split_once('[') {
        None => (text, None),
        Some((name, predicate)) => {
            let number = predicate.strip_suffix(']').and_then(|inside| inside.trim().parse().ok());
            let number = number.filter(|number: &u32| *number > 0);
            (
                name,
                Some(number.ok_or_else(|| {
                    format!("has [{predicate}, and only [1], [2], ... are known")
                })?),
            )
        }
    };
    let name = match name {
        "*" => None,
        ".." => return Err("goes up after it went down".to_owned()),
        name => Some(local(name)?.into()),
    };
    Ok(PathStep { is_deep, name, position })
}

/// Names are compared without their prefixes.
fn local(name: &str) -> Result<&[u8], String> {
    let local = name.rsplit_once(':').map_or(name, |(_, local)| local);
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let starts = local.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if starts && local.chars().all(is_name) {
        Ok(local.as_bytes())
    } else {
        Err(format!("has '{name}', which is no name of an element or attribute"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(steps: &[PathStep]) -> String {
        let step = |step: &PathStep| {
            let name = step.name.as_deref().map_or("*", |name| std::str::from_utf8(name).unwrap());
            let position = step.position.map(|at| format!("[{at}]")).unwrap_or_default();
            format!("{}{name}{position}", if step.is_deep { "//" } else { "/" })
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn rows_are_elements_at_a_place_or_anywhere() {
        let cases = [
            (".//item", "//item"),
            ("//item", "//item"),
            ("/order/items/item", "/order/items/item"),
            ("order/item", "/order/item"),
            ("./order/item", "/order/item"),
            ("/a//b/*", "/a//b/*"),
            ("/n:order/n:item[2]", "/order/item[2]"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                row_path(text).map(|steps| shown(&steps)),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn columns_are_attributes_or_texts_from_the_row_on() {
        let cases = [
            ("@product_id", (0, "", "@")),
            ("x:name/@x:id", (0, "/name", "@")),
            ("street/text()", (0, "/street", "text")),
            ("text()", (0, "", "text")),
            (".", (0, "", "all")),
            ("a/b", (0, "/a/b", "all")),
            ("./a", (0, "/a", "all")),
            (".//city", (0, "//city", "all")),
            ("../@id", (1, "", "@")),
            ("../../customer/name", (2, "/customer/name", "all")),
            ("..", (1, "", "all")),
            ("phone[2]", (0, "/phone[2]", "all")),
        ];
        for (text, (up, steps, part)) in cases {
            let path = column_path(text).unwrap();
            let found = match path.part {
                ValuePart::Attribute(_) => "@",
                ValuePart::OwnText => "text",
                ValuePart::AllText => "all",
            };
            assert_eq!((path.up, shown(&path.steps).as_str(), found), (up, steps, part), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_reason() {
        let rows = [
            "",
            "/",
            "//",
            ".",
            "item[",
            "item[0]",
            "item[last()]",
            "a/",
            "a b",
            "a/../b",
            "@id",
            "a///b",
        ];
        for text in rows {
            assert!(row_path(text).is_err(), "{text}");
        }
        for text in [
            "",
            "/a",
            "//a",
            "a/..",
            "...",
            "@",
            "@a/b",
            "count(a)",
            "a[@id=1]",
            "//@id",
            "a/text()/b",
        ] {
            assert!(column_path(text).is_err(), "{text}");
        }
        assert!(column_path("a[x]").unwrap_err().contains("'a[x]' has [x]"));
    }
}
