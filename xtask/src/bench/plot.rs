//! Curves as a picture, from the figures of a report.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

/// A figure: its key, what it is called, and what is promised at most.
pub(crate) type Panel<'a> = (&'a str, &'a str, Option<f64>);

/// Figures over the size of something.
pub(crate) struct Curves<'a> {
    /// Side by side.
    pub(crate) panels: &'a [Panel<'a>],
    /// From the least to the greatest: what it is called, and what follows the keys of its figures.
    pub(crate) sizes: &'a [(String, String)],
    /// What there are so many of.
    pub(crate) of: &'a str,
}

const WIDTH: f64 = 230.0;
const HEIGHT: f64 = 190.0;
/// Of a panel, around what is drawn in it.
const MARGIN: f64 = 34.0;

impl Curves<'_> {
    /// The picture of a report that was written as JSON.
    pub(crate) fn draw(&self, report: &Value) -> Result<String> {
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="#fff"/>
"##,
            w = WIDTH * self.panels.len() as f64,
            h = HEIGHT + 18.0,
        );
        for (at, (key, title, most)) in self.panels.iter().enumerate() {
            let values = self
                .sizes
                .iter()
                .map(|(_, suffix)| value(report, &format!("{key}{suffix}")))
                .collect::<Result<Vec<_>>>()?;
            self.panel(&mut svg, at as f64 * WIDTH, title, *most, &values)?;
        }
        let command = report["command"].as_str().unwrap_or_default();
        writeln!(
            svg,
            r##"<text x="8" y="{y}" fill="#777">{of}; {command}; bars: least and greatest; dashes: what is promised</text>"##,
            of = self.of,
            y = HEIGHT + 10.0
        )?;
        Ok(svg + "</svg>\n")
    }

    fn panel(
        &self,
        svg: &mut String,
        left: f64,
        title: &str,
        most: Option<f64>,
        values: &[[f64; 3]],
    ) -> Result<()> {
        let top = values.iter().map(|v| v[2]).fold(most.unwrap_or(0.0), f64::max) * 1.1;
        let (bottom, height) = (HEIGHT - MARGIN, HEIGHT - 2.0 * MARGIN);
        let y = |value: f64| bottom - value / top * height;
        let last = self.sizes.len().saturating_sub(1);
        let x = |at: usize| left + MARGIN + (WIDTH - 2.0 * MARGIN) / last.max(1) as f64 * at as f64;
        let (from, to) = (left + MARGIN - 12.0, left + WIDTH - MARGIN + 12.0);
        writeln!(svg, r#"<text x="{from}" y="18" font-weight="bold">{title}</text>"#)?;
        writeln!(svg, r##"<path d="M{from} {bottom}H{to}" stroke="#333"/>"##)?;
        if let Some(most) = most {
            writeln!(
                svg,
                r##"<path d="M{from} {ym:.1}H{to}" stroke="#c33" stroke-dasharray="4 3"/><text x="{from}" y="{yt:.1}" fill="#c33">at most {most}</text>"##,
                ym = y(most),
                yt = y(most) - 4.0,
            )?;
        }
        let line: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(at, v)| format!("{:.1},{:.1}", x(at), y(v[0])))
            .collect();
        writeln!(
            svg,
            r##"<polyline points="{}" fill="none" stroke="#26c" stroke-width="2"/>"##,
            line.join(" ")
        )?;
        for (at, [median, least, greatest]) in values.iter().enumerate() {
            writeln!(
                svg,
                r##"<path d="M{x:.1} {a:.1}V{b:.1}" stroke="#26c"/><circle cx="{x:.1}" cy="{m:.1}" r="3" fill="#26c"/><text x="{x:.1}" y="{t:.1}" dx="{dx}" text-anchor="{anchor}">{median}</text><text x="{x:.1}" y="{l}" text-anchor="middle" fill="#555">{size}</text>"##,
                x = x(at),
                a = y(*least),
                b = y(*greatest),
                m = y(*median),
                // Beside the bar, and clear of the line of what is promised.
                t = y(*median)
                    + if most.is_some_and(|it| (y(*median) - y(it)).abs() < 16.0) {
                        16.0
                    } else {
                        -6.0
                    },
                dx = if at < last { 5 } else { -5 },
                anchor = if at < last { "start" } else { "end" },
                median = short(*median),
                l = bottom + 16.0,
                size = self.sizes[at].0,
            )?;
        }
        Ok(())
    }
}

/// Median, least, greatest.
fn value(report: &Value, key: &str) -> Result<[f64; 3]> {
    let median = report["figures"][key].as_f64();
    let spread = [0, 1].map(|n| report["spread"][key][n].as_f64());
    match (median, spread) {
        (Some(median), [Some(least), Some(greatest)]) => Ok([median, least, greatest]),
        _ => None.with_context(|| format!("the report has no {key}")),
    }
}

/// With two digits behind the point, or as many as it takes to see two that count.
fn short(value: f64) -> String {
    let decimals = match value {
        10.0.. => 0,
        0.1.. => 2,
        0.01.. => 3,
        0.001.. => 4,
        _ => 5,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let shown = [0.0, 0.000_491_2, 0.137_3, 1.05, 43.6, 147.93, 12_345.6].map(short);
        assert_eq!(shown, ["0.00000", "0.00049", "0.14", "1.05", "44", "148", "12346"]);
    }

    #[test]
    fn every_figure_is_in_the_picture() {
        let panels = [("a", "first", Some(1.0)), ("b", "second", None)];
        let sizes = ["10", "20", ""].map(|size| (format!("size {size}"), format!("_{size}")));
        let curves = Curves { panels: &panels, sizes: &sizes, of: "things" };
        let (mut figures, mut spread) = (serde_json::Map::new(), serde_json::Map::new());
        for (at, (_, suffix)) in sizes.iter().enumerate() {
            for (key, ..) in panels {
                let key = format!("{key}{suffix}");
                figures.insert(key.clone(), (at as f64 + 0.125).into());
                spread.insert(key, serde_json::json!([at as f64, at as f64 + 0.25]));
            }
        }
        let mut report = serde_json::json!({"command": "x", "figures": figures, "spread": spread});
        let svg = curves.draw(&report).unwrap();
        assert_eq!(svg.matches(">2.12<").count(), panels.len());
        assert_eq!(svg.matches("at most").count(), 1);
        assert_eq!(svg.matches("<circle").count(), panels.len() * sizes.len());
        report["figures"]["b_20"] = Value::Null;
        assert!(curves.draw(&report).unwrap_err().to_string().contains("b_20"));
    }
}
