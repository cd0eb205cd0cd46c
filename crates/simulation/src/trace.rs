//! The trace: one line per event, as text or as NDJSON for a trace checker.

use std::fmt::{Display, Write as _};

use synod_types::NodeId;

use crate::time::Time;

/// The format of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// Human-readable lines.
    Text,
    /// One JSON object per line: `t` (true time in microseconds), `node`, `event`, and the event's
    /// fields, as numbers or strings.
    Ndjson,
}

/// Collects the lines of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    format: Option<TraceFormat>,
    lines: Vec<String>,
}

/// A line being built.
pub(crate) struct Line<'a> {
    trace: &'a mut Trace,
    format: TraceFormat,
    line: String,
}

impl Trace {
    pub(crate) fn new(format: Option<TraceFormat>) -> Self {
        Self {
            format,
            lines: Vec::new(),
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// Starts a line, unless there is no trace.
    pub(crate) fn event(
        &mut self,
        at: Time,
        node: Option<NodeId>,
        event: &str,
    ) -> Option<Line<'_>> {
        let format = self.format?;
        let mut line = String::with_capacity(96);
        let written = match format {
            TraceFormat::Text => {
                let (ms, us) = (at / 1000, at % 1000);
                let node = node.map_or_else(|| "-".to_owned(), |node| format!("n{node}"));
                write!(line, "{ms:>6}.{us:03} {node:>3} {event}")
            }
            TraceFormat::Ndjson => {
                let node = node.map_or(0, NodeId::get);
                write!(line, "{{\"t\":{at},\"node\":{node},\"event\":\"{event}\"")
            }
        };
        // Writing to a string can't fail.
        debug_assert!(written.is_ok());
        Some(Line {
            trace: self,
            format,
            line,
        })
    }
}

impl Line<'_> {
    /// Adds a number.
    pub(crate) fn number(mut self, name: &str, value: u64) -> Self {
        let written = match self.format {
            TraceFormat::Text => write!(self.line, " {name}={value}"),
            TraceFormat::Ndjson => write!(self.line, ",\"{name}\":{value}"),
        };
        debug_assert!(written.is_ok());
        self
    }

    /// Adds a string.
    pub(crate) fn word(mut self, name: &str, value: impl Display) -> Self {
        let written = match self.format {
            TraceFormat::Text => write!(self.line, " {name}={value}"),
            TraceFormat::Ndjson => {
                let text = value.to_string().replace('\\', "\\\\").replace('"', "\\\"");
                write!(self.line, ",\"{name}\":\"{text}\"")
            }
        };
        debug_assert!(written.is_ok());
        self
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if self.format == TraceFormat::Ndjson {
            line.push('}');
        }
        self.trace.lines.push(line);
    }
}
