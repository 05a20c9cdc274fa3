//! Line charts as inline SVG: axes in the page's text colour, so that light and dark themes both work.

use std::fmt::Write;

/// Colours that keep their distance on white and on black, also for colour-blind readers.
const COLOURS: [&str; 6] = ["#3b82c4", "#e08214", "#2a9d6f", "#b05fc4", "#c94f4f", "#8c8c3a"];

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 42.0;

/// One curve.
pub(crate) struct Series {
    /// Name in the legend.
    pub(crate) name: String,
    /// (x, y) in order of x.
    pub(crate) points: Vec<(f64, f64)>,
    /// Draws the raw points faintly and their running mean over this many points on top; 1 draws them as they are.
    pub(crate) smooth: usize,
}

/// A chart with a title and named axes.
pub(crate) struct Chart {
    /// What the chart shows.
    pub(crate) title: String,
    /// What to read from it, in a sentence.
    pub(crate) caption: String,
    /// Name of the horizontal axis.
    pub(crate) x_label: String,
    /// Name of the vertical axis.
    pub(crate) y_label: String,
    /// The curves.
    pub(crate) series: Vec<Series>,
    /// Whether the vertical axis begins at 0.
    pub(crate) from_zero: bool,
}

impl Chart {
    /// The chart as an HTML figure; `None` if there is nothing to draw.
    pub(crate) fn to_html(&self) -> Option<String> {
        let (x_range, y_range) = self.ranges()?;
        let (x_ticks, y_ticks) = (ticks(x_range, 6), ticks(y_range, 5));
        let y_range = (y_range.0.min(y_ticks[0]), y_range.1.max(*y_ticks.last()?));
        let place = Place { x_range, y_range };

        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n", escape(&self.title));
        axes(&mut svg, &place, &x_ticks, &y_ticks);
        let (middle_x, middle_y) = ((LEFT + WIDTH - RIGHT) / 2.0, (TOP + HEIGHT - BOTTOM) / 2.0);
        let _ = writeln!(
            svg,
            "<text x=\"{middle_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(13 {middle_y:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 6.0,
            escape(&self.x_label),
            escape(&self.y_label),
        );
        let mut legend = String::new();
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            if series.points.is_empty() {
                continue;
            }
            if series.smooth > 1 {
                path(&mut svg, &place, &series.points, colour, 0.3);
                path(&mut svg, &place, &running_mean(&series.points, series.smooth), colour, 1.0);
            } else {
                path(&mut svg, &place, &series.points, colour, 1.0);
                dots(&mut svg, &place, series, colour);
            }
            let _ = write!(legend, "<span><i style=\"background:{colour}\"></i>{}</span>", escape(&series.name));
        }
        svg += "</svg>";
        Some(format!(
            "<figure><h3>{}</h3>\n{svg}\n<p class=\"legend\">{legend}</p><figcaption>{}</figcaption></figure>\n",
            escape(&self.title),
            escape(&self.caption),
        ))
    }

    fn ranges(&self) -> Option<((f64, f64), (f64, f64))> {
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|point| point.1.is_finite());
        let span = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
        };
        let x_range = span(&mut points().map(|point| point.0));
        let mut y_range = span(&mut points().map(|point| point.1));
        if !x_range.0.is_finite() {
            return None;
        }
        if self.from_zero {
            y_range.0 = y_range.0.min(0.0);
        }
        let widen = |(low, high): (f64, f64)| if high > low { (low, high) } else { (low, low + low.abs().max(1.0)) };
        Some((widen(x_range), widen(y_range)))
    }
}

/// From values to positions in the drawing.
struct Place {
    x_range: (f64, f64),
    y_range: (f64, f64),
}

impl Place {
    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x_range.0) / (self.x_range.1 - self.x_range.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y_range.0) / (self.y_range.1 - self.y_range.0) * (HEIGHT - TOP - BOTTOM)
    }
}

fn axes(svg: &mut String, place: &Place, x_ticks: &[f64], y_ticks: &[f64]) {
    let bottom = HEIGHT - BOTTOM;
    for value in y_ticks {
        let y = place.y(*value);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            tick_label(*value, y_ticks),
        );
    }
    for value in x_ticks.iter().filter(|value| (place.x_range.0..=place.x_range.1).contains(value)) {
        let x = place.x(*value);
        let _ = writeln!(
            svg,
            "<path class=\"tick\" d=\"M{x:.1} {bottom}v4\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 17.0,
            tick_label(*value, x_ticks),
        );
    }
    let _ = writeln!(svg, "<path class=\"tick\" d=\"M{LEFT} {bottom}H{:.1}\"/>", WIDTH - RIGHT);
}

fn path(svg: &mut String, place: &Place, points: &[(f64, f64)], colour: &str, opacity: f64) {
    let mut line = String::new();
    for (x, y) in points.iter().filter(|point| point.1.is_finite()) {
        let _ = write!(line, "{}{:.1} {:.1}", if line.is_empty() { "M" } else { "L" }, place.x(*x), place.y(*y));
    }
    let _ = writeln!(svg, "<path class=\"line\" stroke=\"{colour}\" opacity=\"{opacity}\" d=\"{line}\"/>");
}

/// Marks the points of a short curve and names their values on hovering.
fn dots(svg: &mut String, place: &Place, series: &Series, colour: &str) {
    if series.points.len() > 40 {
        return;
    }
    for (x, y) in series.points.iter().filter(|point| point.1.is_finite()) {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.8\" fill=\"{colour}\"><title>{}: {y:.4} at {x}</title></circle>",
            place.x(*x),
            place.y(*y),
            escape(&series.name),
        );
    }
}

/// The mean of up to `window` points that end at each point.
fn running_mean(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let mut means = Vec::with_capacity(points.len());
    for (index, (x, _)) in points.iter().enumerate() {
        let recent = &points[index.saturating_sub(window - 1)..=index];
        means.push((*x, recent.iter().map(|point| point.1).sum::<f64>() / recent.len() as f64));
    }
    means
}

/// Round numbers inside the range (and one at or below its start, one at or above its end), 1, 2 or 5 apart times a
/// power of ten.
fn ticks((low, high): (f64, f64), about: usize) -> Vec<f64> {
    let rough = (high - low) / about as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last).map(|index| index as f64 * step).collect()
}

/// As many decimals as tell neighbouring ticks apart.
fn tick_label(value: f64, ticks: &[f64]) -> String {
    let step = if ticks.len() > 1 { ticks[1] - ticks[0] } else { 1.0 };
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    if decimals > 4 && value != 0.0 {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.decimals$}");
    if text.trim_start_matches(['-', '0', '.']).is_empty() { "0".to_owned() } else { text }
}

/// Text that is safe inside HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(ticks((0.0, 1.0), 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks((3.0, 97.0), 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(tick_label(0.6000000000000001, &[0.0, 0.2]), "0.6");
        assert_eq!(tick_label(-0.0, &[0.0, 0.2]), "0");
    }

    #[test]
    fn a_chart_of_constants_or_of_nothing_does_not_divide_by_zero() {
        let chart = |points| Chart {
            title: "a < b".to_owned(),
            caption: String::new(),
            x_label: "step".to_owned(),
            y_label: "loss".to_owned(),
            series: vec![Series { name: "s".to_owned(), points, smooth: 1 }],
            from_zero: false,
        };
        assert!(chart(Vec::new()).to_html().is_none());
        assert!(chart(vec![(0.0, f64::NAN)]).to_html().is_none());
        let html = chart(vec![(5.0, 2.0)]).to_html().unwrap();
        assert!(html.contains("a &lt; b") && !html.contains("NaN") && !html.contains("inf"), "{html}");
    }
}
