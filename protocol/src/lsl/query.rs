//! The query that selects a stream: the part of an endpoint after `lsl:`.

use std::fmt;
use std::str::FromStr;

/// A query for streams. A stream must meet all conditions that are set; with none set, the program uses its default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Name of the stream.
    pub name: Option<String>,
    /// Content type of the stream.
    pub content_type: Option<String>,
    /// Source id of the stream.
    pub source_id: Option<String>,
    /// XPath condition of the library, such as `starts-with(name,'rig') and channel_count=96`.
    pub condition: Option<String>,
}

/// The text is not a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected lsl:NAME, or of lsl:name=NAME,type=TYPE,source-id=ID,predicate=CONDITION those that are wanted, \
     found \"lsl:{found}\""
)]
pub struct QueryError {
    found: String,
}

impl Query {
    /// Makes a query for streams of this name.
    pub fn of_name(name: impl Into<String>) -> Query {
        Query { name: Some(name.into()), ..Query::default() }
    }

    /// Whether no condition is set.
    pub fn is_any(&self) -> bool {
        *self == Query::default()
    }

    /// Returns the name if no other condition is set: an offered stream can be given nothing else.
    pub fn only_name(&self) -> Option<&str> {
        let Query { name, content_type: None, source_id: None, condition: None } = self else { return None };
        name.as_deref()
    }

    /// Returns the conditions as one XPath condition, for [`super::Library::resolve`].
    pub fn predicate(&self) -> String {
        let equals = |field: &str, value: &Option<String>| {
            let value = value.as_ref()?;
            // A value has at most one kind of quotes, which the parser makes sure of.
            let quote = if value.contains('\'') { '"' } else { '\'' };
            Some(format!("{field}={quote}{value}{quote}"))
        };
        let conditions = [
            equals("name", &self.name),
            equals("type", &self.content_type),
            equals("source_id", &self.source_id),
            self.condition.as_ref().map(|condition| format!("({condition})")),
        ];
        conditions.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

impl FromStr for Query {
    type Err = QueryError;

    /// Reads the text after `lsl:`. A predicate comes last, because it may hold commas.
    fn from_str(text: &str) -> Result<Query, QueryError> {
        let error = || QueryError { found: text.to_owned() };
        let mut query = Query::default();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(condition) = rest.strip_prefix("predicate=") {
                let is_usable = !condition.is_empty() && !condition.contains('\0');
                query.condition = Some(condition.to_owned()).filter(|_| is_usable);
                return query.condition.is_some().then_some(query).ok_or_else(error);
            }
            let (part, after) = rest.split_once(',').unwrap_or((rest, ""));
            if rest.len() > part.len() && after.is_empty() {
                return Err(error());
            }
            rest = after;
            let (field, value) = match part.split_once('=') {
                Some(("name", value)) => (&mut query.name, value),
                Some(("type", value)) => (&mut query.content_type, value),
                Some(("source-id", value)) => (&mut query.source_id, value),
                None if part.len() == text.len() => (&mut query.name, part),
                _ => return Err(error()),
            };
            let is_quotable = !(value.contains('\'') && value.contains('"'));
            if value.is_empty() || !is_quotable || value.contains('\0') || field.is_some() {
                return Err(error());
            }
            *field = Some(value.to_owned());
        }
        Ok(query)
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.only_name().filter(|name| !name.contains('=')) {
            return f.write_str(name);
        }
        let parts = [
            ("name", &self.name),
            ("type", &self.content_type),
            ("source-id", &self.source_id),
            ("predicate", &self.condition),
        ];
        let parts = parts.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_written_and_made_a_condition() {
        for (text, condition) in [
            ("", ""),
            ("rig", "name='rig'"),
            ("name=rig,type=BinnedSpikes", "name='rig' and type='BinnedSpikes'"),
            ("source-id=array 1", "source_id='array 1'"),
            ("name=Ann's", "name=\"Ann's\""),
            ("type=EEG,predicate=starts-with(name,'rig')", "type='EEG' and (starts-with(name,'rig'))"),
            ("predicate=channel_count=96", "(channel_count=96)"),
        ] {
            let query: Query = text.parse().unwrap();
            assert_eq!(query.predicate(), condition);
            assert_eq!(query.to_string().parse::<Query>().unwrap(), query, "{text}");
        }
        assert_eq!("rig".parse::<Query>().unwrap().only_name(), Some("rig"));
        assert_eq!("type=x".parse::<Query>().unwrap().only_name(), None);
        assert!("".parse::<Query>().unwrap().is_any());
    }

    #[test]
    fn what_is_no_query_is_refused_with_a_sentence() {
        for text in [
            "name=",
            "nam=rig",
            "rig,type=x",
            "type=x,",
            "name=a,name=b",
            "predicate=",
            "predicate=a\0b",
            "name='\"",
            "=",
        ] {
            let refused = text.parse::<Query>().unwrap_err().to_string();
            assert!(refused.ends_with(&format!("found \"lsl:{text}\"")), "{refused}");
        }
    }
}
