//! Traces across the wire: which span of which process caused a call.
//!
//! The roles make `tracing` spans and say here how they hang together. Whoever wants to see traces installs a [`Tracer`];
//! without one all of this does nothing. A point of a trace travels as W3C `traceparent` in the metadata of calls and
//! answers; one that cannot be read is passed over, as the standard asks.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::{fmt, str::FromStr, sync::OnceLock};
use tonic::metadata::MetadataMap;
use tracing::Span;

/// Metadata: the span that caused a call or made an answer.
const TRACEPARENT: &str = "traceparent";

/// One span of a trace, as others name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TracePoint {
    /// The trace; not 0.
    pub trace: u128,
    /// The span in it; not 0.
    pub span: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// A text that is no `traceparent` of version 00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a `traceparent`")]
pub struct TracePointError;

impl fmt::Display for TracePoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl FromStr for TracePoint {
    type Err = TracePointError;

    fn from_str(text: &str) -> Result<Self, TracePointError> {
        let lower_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let parts: Vec<&str> = text.split('-').collect();
        match parts.as_slice() {
            ["00", trace, span, flags]
                if (trace.len(), span.len(), flags.len()) == (32, 16, 2)
                    && [trace, span, flags].into_iter().all(|part| lower_hex(part)) =>
            {
                let trace = u128::from_str_radix(trace, 16).map_err(|_| TracePointError)?;
                let span = u64::from_str_radix(span, 16).map_err(|_| TracePointError)?;
                let flags = u8::from_str_radix(flags, 16).map_err(|_| TracePointError)?;
                if trace == 0 || span == 0 {
                    return Err(TracePointError);
                }
                Ok(Self { trace, span, sampled: flags & 1 == 1 })
            }
            _ => Err(TracePointError),
        }
    }
}

/// Makes traces of spans.
pub trait Tracer: Send + Sync {
    /// The point that `span` is.
    fn point(&self, span: &Span) -> Option<TracePoint>;

    /// Makes `span`, which nobody has entered yet, a child of `parent`.
    fn follow(&self, span: &Span, parent: TracePoint);

    /// Notes that `span` goes back to `cause` as well.
    fn link(&self, span: &Span, cause: TracePoint);
}

static TRACER: OnceLock<Box<dyn Tracer>> = OnceLock::new();

/// Makes traces from now on; false if that is being done already.
pub fn install(tracer: Box<dyn Tracer>) -> bool {
    TRACER.set(tracer).is_ok()
}

/// The point that `span` is, if traces are made.
pub fn point(span: &Span) -> Option<TracePoint> {
    TRACER.get()?.point(span)
}

/// Makes `span`, which nobody has entered yet, a child of `parent`.
pub fn follow(span: &Span, parent: Option<TracePoint>) {
    if let (Some(tracer), Some(parent)) = (TRACER.get(), parent) {
        tracer.follow(span, parent);
    }
}

/// Notes that `span` goes back to `cause` as well.
pub fn link(span: &Span, cause: TracePoint) {
    if let Some(tracer) = TRACER.get() {
        tracer.link(span, cause);
    }
}

/// The span that a call or an answer comes from.
pub fn received(metadata: &MetadataMap) -> Option<TracePoint> {
    metadata.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

/// Says with an answer that it comes from `span`.
pub fn answer(metadata: &mut MetadataMap, span: &Span) {
    if let Some(value) = point(span).and_then(|point| point.to_string().parse().ok()) {
        metadata.insert(TRACEPARENT, value);
    }
}

/// Says with a call that it comes from the present span.
pub(crate) fn call(headers: &mut HeaderMap) {
    if let Some(value) = point(&Span::current()).and_then(|point| HeaderValue::from_str(&point.to_string()).ok()) {
        headers.insert(HeaderName::from_static(TRACEPARENT), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the W3C recommendation, section 3.2.3.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_point_is_written_and_read_as_the_standard_has_it() {
        let point: TracePoint = EXAMPLE.parse().unwrap();
        assert_eq!(point.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((point.span, point.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(point.to_string(), EXAMPLE);
    }

    #[test]
    fn what_is_no_point_is_passed_over() {
        for text in [
            "",
            "00",
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace("00-4", "01-4"),
            &EXAMPLE.replace("4bf9", "0x+1"),
            &format!("{EXAMPLE}-00"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(text.parse::<TracePoint>(), Err(TracePointError), "{text}");
            let mut metadata = MetadataMap::new();
            metadata.insert(TRACEPARENT, text.parse().unwrap());
            assert_eq!(received(&metadata), None);
        }
        assert_eq!(received(&MetadataMap::new()), None);
    }

    #[test]
    fn without_a_tracer_nothing_is_said() {
        let span = tracing::info_span!("span");
        let (mut headers, mut metadata) = (HeaderMap::new(), MetadataMap::new());
        call(&mut headers);
        answer(&mut metadata, &span);
        follow(&span, EXAMPLE.parse().ok());
        assert!(headers.is_empty() && metadata.is_empty() && point(&span).is_none());
    }
}
