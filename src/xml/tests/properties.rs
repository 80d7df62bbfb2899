//! Any document either extracts or is refused, and a generated tree extracts what a plain search in it finds.

use proptest::prelude::*;

use super::*;
use crate::xml::paths::{PathStep, ValuePart, column_path, row_path};

const NAMES: [&str; 3] = ["a", "b", "item"];
const ROWS: [&str; 7] =
    [".//item", "/a/item", "/a/b/item", "//b//item", "//item[2]", "/a//*", "//a/item[1]"];
const COLUMNS: [&str; 14] = [
    "@id",
    "@x",
    "b",
    "b/text()",
    ".",
    "text()",
    "../@id",
    "../b",
    "../b/text()",
    ".//b/@x",
    "b[2]",
    "../../@id",
    "../../a/item",
    ".//a//b",
];

/// Elements in document order; the first is the document.
#[derive(Debug, Clone)]
struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    inside: Vec<Inside>,
    parent: usize,
}

#[derive(Debug, Clone)]
enum Inside {
    Text(String),
    Child(usize),
}

/// A tree as it is drawn.
#[derive(Debug, Clone)]
struct Drawn {
    name: usize,
    id: Option<String>,
    x: Option<String>,
    inside: Vec<Result<Self, String>>,
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ a<&>\"'é😀\n]{1,4}").unwrap()
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let value = || proptest::option::of(proptest::string::string_regex("[ a<&\"'é]{0,3}").unwrap());
    let leaf = (0..NAMES.len(), value(), value()).prop_map(|(name, id, x)| Drawn {
        name,
        id,
        x,
        inside: Vec::new(),
    });
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let inside = proptest::collection::vec(
            prop_oneof![3 => inner.prop_map(Ok), 1 => text().prop_map(Err)],
            0..5,
        );
        (0..NAMES.len(), value(), value(), inside).prop_map(|(name, id, x, inside)| Drawn {
            name,
            id,
            x,
            inside,
        })
    })
}

fn plant(drawn: &Drawn, parent: usize, elements: &mut Vec<Element>) -> usize {
    let own = elements.len();
    let attributes = [("id", &drawn.id), ("x", &drawn.x)];
    let attributes = attributes.iter().filter_map(|(name, value)| Some((*name, (*value).clone()?)));
    let (name, attributes) = (NAMES[drawn.name], attributes.collect());
    elements.push(Element { name, attributes, inside: Vec::new(), parent });
    for inside in &drawn.inside {
        let inside = match inside {
            Ok(child) => Inside::Child(plant(child, own, elements)),
            Err(text) => Inside::Text(text.clone()),
        };
        elements[own].inside.push(inside);
    }
    own
}

fn tree(drawn: &Drawn) -> Vec<Element> {
    let document = Element { name: "", attributes: Vec::new(), inside: Vec::new(), parent: 0 };
    let mut elements = vec![document];
    let root = plant(drawn, 0, &mut elements);
    elements[0].inside.push(Inside::Child(root));
    elements
}

fn written(elements: &[Element], at: usize, out: &mut String) {
    for inside in &elements[at].inside {
        match inside {
            Inside::Text(text) if text.contains('é') => *out += &format!("<![CDATA[{text}]]>"),
            Inside::Text(text) => *out += &quick_xml::escape::escape(text.as_str()),
            Inside::Child(child) => {
                let element = &elements[*child];
                *out += &format!("<n:{}", element.name);
                for (name, value) in &element.attributes {
                    *out += &format!(" {name}=\"{}\"", quick_xml::escape::escape(value.as_str()));
                }
                *out += "><!-- - -->";
                written(elements, *child, out);
                *out += &format!("</n:{}>", element.name);
            }
        }
    }
}

fn children(elements: &[Element], of: usize) -> Vec<usize> {
    let child = |inside: &Inside| match inside {
        Inside::Child(child) => Some(*child),
        Inside::Text(_) => None,
    };
    elements[of].inside.iter().filter_map(child).collect()
}

fn select(elements: &[Element], from: usize, steps: &[PathStep]) -> Vec<usize> {
    let mut found = vec![from];
    for step in steps {
        let mut next = Vec::new();
        for of in found {
            let mut parents = vec![of];
            if step.is_deep {
                let mut at = 0;
                while at < parents.len() {
                    parents.extend(children(elements, parents[at]));
                    at += 1;
                }
            }
            for parent in parents {
                let mut there = children(elements, parent);
                there.retain(|child| step.matches(elements[*child].name.as_bytes()));
                next.extend(match step.position {
                    None => there,
                    Some(position) => {
                        there.get(position as usize - 1).copied().into_iter().collect()
                    }
                });
            }
        }
        next.sort_unstable();
        next.dedup();
        found = next;
    }
    found
}

fn all_text(elements: &[Element], of: usize) -> String {
    let text = |inside: &Inside| match inside {
        Inside::Text(text) => text.clone(),
        Inside::Child(child) => all_text(elements, *child),
    };
    elements[of].inside.iter().map(text).collect()
}

fn own_text(elements: &[Element], of: usize) -> Option<String> {
    let (mut run, mut has_children) = (String::new(), false);
    for inside in &elements[of].inside {
        match inside {
            Inside::Text(text) => run += text,
            Inside::Child(_) if !run.trim().is_empty() => return Some(run),
            Inside::Child(_) => {
                run.clear();
                has_children = true;
            }
        }
    }
    let is_space = run.trim().is_empty();
    let is_none = run.is_empty() || (has_children && is_space);
    (!is_none).then_some(run)
}

fn value(elements: &[Element], row: usize, path: &str) -> Option<String> {
    let path = column_path(path).unwrap();
    let mut from = row;
    for _ in 0..path.up {
        // Above the document is nothing.
        from = Some(elements[from].parent).filter(|parent| *parent > 0)?;
    }
    let there = select(elements, from, &path.steps);
    there.into_iter().find_map(|at| match &path.part {
        ValuePart::AllText => Some(all_text(elements, at)),
        ValuePart::OwnText => own_text(elements, at),
        ValuePart::Attribute(name) => {
            let own = elements[at].attributes.iter().find(|(own, _)| own.as_bytes() == &**name);
            own.map(|(_, value)| value.clone())
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_a_plain_search_in_the_tree_finds(drawn in drawn()) {
        let elements = tree(&drawn);
        let mut document = String::new();
        written(&elements, 0, &mut document);
        for row in ROWS {
            let shape = shape(row, &COLUMNS);
            let mut extractor = Extractor::new(std::slice::from_ref(&shape), XmlLimits::default());
            extractor.read(&document).unwrap();
            let found: Vec<Vec<Option<String>>> = extractor
                .rows(0)
                .map(|row| extractor.cells(row).map(|cell| cell.map(str::to_owned)).collect())
                .collect();
            let expected: Vec<Vec<Option<String>>> = select(&elements, 0, &row_path(row).unwrap())
                .into_iter()
                .map(|at| COLUMNS.iter().map(|path| value(&elements, at, path)).collect())
                .collect();
            prop_assert_eq!(found, expected, "{} in {}", row, document);
        }
    }

    #[test]
    fn a_document_that_breaks_off_is_refused(drawn in drawn(), cut in 0.0..1.0) {
        let elements = tree(&drawn);
        let mut document = String::new();
        written(&elements, 0, &mut document);
        let cut = (document.len() as f64 * cut) as usize;
        let cut = (1..=cut.max(1)).rev().find(|at| document.is_char_boundary(*at)).unwrap_or(1);
        let result = extracted(&shape(".//item", &COLUMNS), &document[..cut], XmlLimits::default());
        prop_assert!(result.is_err(), "{}", &document[..cut]);
    }

    #[test]
    fn any_text_is_read_or_refused(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("<a>"), Just("</a>"), Just("<item id='1'>"), Just("</item>"), Just("<b/>"),
                Just("&amp;"), Just("&#x41;"), Just("&"), Just("<"), Just(">"), Just("<![CDATA["),
                Just("]]>"), Just("<!--"), Just("-->"), Just("<?xml?>"), Just("<!DOCTYPE"), Just("é"),
                Just(" x='"), Just("\u{feff}"), Just("\0"), Just("\""), Just("=")
            ],
            0..12,
        ),
        bytes in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let shape = shape(".//item", &COLUMNS);
        for text in [parts.concat(), String::from_utf8_lossy(&bytes).into_owned()] {
            if let Err(error) = extracted(&shape, &text, XmlLimits::default()) {
                prop_assert!(error.at <= text.len(), "{error} in {text:?}");
            }
        }
        if let Ok(text) = text_of_bytes(&bytes) {
            prop_assert!(text.len() <= 3 * bytes.len());
        }
    }
}
