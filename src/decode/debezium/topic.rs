//! The table that a topic names, by a pattern of the configuration.

/// As in `cdc/*/{schema}/{table}`: a name or `*` stands for one or more characters without `/`, up to what
/// follows it in the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::decode) struct TopicPattern(Vec<PatternPart>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternPart {
    Literal(String),
    Schema,
    Table,
    Any,
}

impl TopicPattern {
    /// # Errors
    /// What is wrong with it.
    pub(in crate::decode) fn parse(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while !rest.is_empty() {
            let place = [
                ("{schema}", PatternPart::Schema),
                ("{table}", PatternPart::Table),
                ("*", PatternPart::Any),
            ]
            .into_iter()
            .find(|(name, _)| rest.starts_with(name));
            match (place, parts.last_mut()) {
                (Some(_), Some(PatternPart::Schema | PatternPart::Table | PatternPart::Any)) => {
                    return Err("between two names or * there must be something".to_owned());
                }
                (Some((name, part)), _) => {
                    rest = &rest[name.len()..];
                    parts.push(part);
                }
                (None, last) => {
                    let (first, others) =
                        rest.split_at(rest.chars().next().map_or(0, char::len_utf8));
                    rest = others;
                    match last {
                        Some(PatternPart::Literal(text)) => text.push_str(first),
                        _ => parts.push(PatternPart::Literal(first.to_owned())),
                    }
                }
            }
        }
        let count = |part: PatternPart| parts.iter().filter(|other| **other == part).count();
        match (count(PatternPart::Table), count(PatternPart::Schema)) {
            (1, 0 | 1) => Ok(Self(parts)),
            _ => Err("it must have {table} once, and {schema} once or not at all".to_owned()),
        }
    }

    /// Schema and table; the schema is empty if the pattern doesn't have it. `None` for another topic.
    pub(in crate::decode) fn names<'t>(&self, topic: &'t str) -> Option<(&'t str, &'t str)> {
        let (mut schema, mut table, mut rest) = ("", "", topic);
        for (at, part) in self.0.iter().enumerate() {
            if let PatternPart::Literal(text) = part {
                rest = rest.strip_prefix(text.as_str())?;
                continue;
            }
            let end = match self.0.get(at + 1) {
                Some(PatternPart::Literal(text)) => rest.find(text.as_str())?,
                _ => rest.len(),
            };
            let name = &rest[..end];
            if name.is_empty() || name.contains('/') {
                return None;
            }
            rest = &rest[end..];
            match part {
                PatternPart::Schema => schema = name,
                PatternPart::Table => table = name,
                PatternPart::Any | PatternPart::Literal(_) => {}
            }
        }
        rest.is_empty().then_some((schema, table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_names_schema_and_table_or_is_another() {
        let cases = [
            ("cdc/*/{schema}/{table}", "cdc/prod/SALES/ORDERS", Some(("SALES", "ORDERS"))),
            ("cdc/*/{schema}/{table}", "cdc/prod/SALES/ORDERS/1", None),
            ("cdc/*/{schema}/{table}", "cdc/SALES/ORDERS", None),
            ("cdc/*/{schema}/{table}", "cdc//SALES/ORDERS", None),
            ("server1.{schema}.{table}", "server1.SALES.ORDERS", Some(("SALES", "ORDERS"))),
            ("{table}/v1", "ORDERS/v1", Some(("", "ORDERS"))),
            ("{table}/v1", "a/ORDERS/v1", None),
            ("{table}", "", None),
        ];
        for (pattern, topic, expected) in cases {
            let names = TopicPattern::parse(pattern).unwrap();
            assert_eq!(names.names(topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn a_pattern_without_a_table_or_without_ends_is_refused() {
        for pattern in ["cdc/>", "{schema}/x", "{table}/{table}", "{schema}{table}", "*{table}", ""]
        {
            assert!(TopicPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
