//! The plot: milliseconds to arrive, by loss, one line a system; one panel for one hop, one for three.
//!
//! In: rows. Out: an SVG of a few kilobytes, drawn by hand: a logarithmic axis, points at the median with a whisker to the worst run,
//! a hollow point at the top edge where no run arrived in time, the bound as a dotted line. Lines join independent losses only:
//! losses in runs are another path, not more loss.

use super::cell::{LOSSES, System};
use super::object::Kind;
use super::row::Row;

const PANEL_W: f64 = 420.0;
const PANEL_H: f64 = 360.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 60.0;
const GAP: f64 = 60.0;
/// The axis, in milliseconds.
const LEAST_MS: f64 = 20.0;
const MOST_MS: f64 = 30_000.0;

/// A line of the plot: who, how much is known, what it is called, its colour.
type Series = (System, Option<u32>, &'static str, &'static str);

#[rustfmt::skip]
const SERIES: [Series; 8] = [
    (System::Bfr,         None,     "BFR, nothing known",           "#0b6e4f"),
    (System::Bfr,         Some(98), "BFR, 98 % known",              "#2bb673"),
    (System::TcpCubic,    None,     "TCP cubic",                    "#b23a48"),
    (System::TcpBbr,      None,     "TCP BBR",                      "#e08e45"),
    (System::Bip152Cubic, Some(98), "BIP152 model, cubic, 98 %",    "#4a6fa5"),
    (System::Bip152Bbr,   Some(98), "BIP152 model, BBR, 98 %",      "#86a8d8"),
    (System::HttpPull,    Some(98), "HTTP pull model, 98 %",        "#7b5ea7"),
    (System::NackOnly,    None,     "datagrams, NACK only",         "#6b6b6b"),
];

/// The whole picture.
pub fn svg(rows: &[Row]) -> String {
    let width = 2.0 * (LEFT + PANEL_W) + GAP;
    let legend_h = 24.0 * (SERIES.len().div_ceil(2) + 1) as f64 + 30.0;
    let height = TOP + PANEL_H + 60.0 + legend_h;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (panel, hops) in [1usize, 3].into_iter().enumerate() {
        let x0 = LEFT + panel as f64 * (LEFT + PANEL_W + GAP / 2.0);
        frame(&mut svg, x0, hops);
        let bound = rows.iter().find(|row| row.cell.hops == hops && shown(row, &SERIES[0]));
        if let Some(bound) = bound {
            let (y, right) = (y_of(bound.cell.bound_ms()), x0 + PANEL_W);
            svg += &format!(
                "<line x1=\"{x0}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#000\" \
                 stroke-dasharray=\"2 3\"/>\n"
            );
        }
        for (i, series) in SERIES.iter().enumerate() {
            line(&mut svg, x0, i, series, rows, hops);
        }
    }
    let place =
        |i: usize| (LEFT + (i % 2) as f64 * 400.0, TOP + PANEL_H + 75.0 + 24.0 * (i / 2) as f64);
    for (i, (_, _, name, colour)) in SERIES.iter().enumerate() {
        let (x, y) = place(i);
        svg += &format!(
            "<rect x=\"{x}\" y=\"{}\" width=\"18\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{y}\">{name}</text>\n",
            y - 7.0,
            x + 26.0
        );
    }
    let (x, y) = place(SERIES.len());
    svg += &format!(
        "<line x1=\"{x}\" x2=\"{0}\" y1=\"{1}\" y2=\"{1}\" stroke=\"#000\" \
         stroke-dasharray=\"2 3\"/><text x=\"{2}\" y=\"{y}\">the bound, nothing known</text>\n",
        x + 18.0,
        y - 5.0,
        x + 26.0
    );
    let (x, y) = place(SERIES.len() + 1);
    svg += &format!(
        "<circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"#fff\" stroke=\"#000\" stroke-width=\"2\"/>\
         <text x=\"{}\" y=\"{y}\">no run within 30 s</text>\n",
        x + 9.0,
        y - 5.0,
        x + 26.0
    );
    svg + "</svg>\n"
}

fn shown(row: &Row, (system, overlap, _, _): &Series) -> bool {
    row.cell.system == *system && row.cell.overlap_pct == *overlap && row.cell.kind == Kind::Block
}

/// Where a time stands.
fn y_of(ms: f64) -> f64 {
    let share = (ms.clamp(LEAST_MS, MOST_MS) / LEAST_MS).ln() / (MOST_MS / LEAST_MS).ln();
    TOP + PANEL_H * (1.0 - share)
}

fn frame(svg: &mut String, x0: f64, hops: usize) {
    let hops = if hops == 1 { "1 hop".to_owned() } else { format!("{hops} hops") };
    *svg += &format!(
        "<text x=\"{x0}\" y=\"{}\" font-weight=\"bold\">1 MB over {hops}, until verified: \
         median and worst</text>\n\
         <rect x=\"{x0}\" y=\"{TOP}\" width=\"{PANEL_W}\" height=\"{PANEL_H}\" fill=\"none\" \
         stroke=\"#999\"/>\n",
        TOP - 14.0
    );
    let ticks = [
        (30.0, "30 ms"),
        (100.0, "100 ms"),
        (300.0, "300 ms"),
        (1_000.0, "1 s"),
        (3_000.0, "3 s"),
        (10_000.0, "10 s"),
        (MOST_MS, "30 s"),
    ];
    for (ms, name) in ticks {
        let y = y_of(ms);
        *svg += &format!(
            "<line x1=\"{x0}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\n",
            x0 + PANEL_W,
            x0 - 6.0,
            y + 4.0
        );
    }
    for (i, loss) in LOSSES.iter().enumerate() {
        let burst =
            if loss.burst > 1.0 { format!(", runs of {}", loss.burst) } else { String::new() };
        *svg += &format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{} %{burst}</text>\n",
            x_of(x0, i, 0),
            TOP + PANEL_H + 20.0,
            loss.pct
        );
    }
    *svg += &format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">frames lost, both ways</text>\n",
        x0 + PANEL_W / 2.0,
        TOP + PANEL_H + 40.0
    );
}

/// Where a loss stands; lines are set apart a little, so that whiskers do not hide each other.
fn x_of(x0: f64, loss: usize, series: usize) -> f64 {
    let step = PANEL_W / LOSSES.len() as f64;
    x0 + step * (loss as f64 + 0.5) + (series as f64 - 3.5) * 5.0 * f64::from(u8::from(series > 0))
}

fn line(svg: &mut String, x0: f64, index: usize, series: &Series, rows: &[Row], hops: usize) {
    let colour = series.3;
    let mut points = Vec::new();
    for (i, loss) in LOSSES.iter().enumerate() {
        let is = |row: &&Row| row.cell.hops == hops && row.cell.loss == *loss && shown(row, series);
        let Some(row) = rows.iter().find(is) else { continue };
        let x = x_of(x0, i, index);
        let worst = if row.timeouts > 0 { Some(MOST_MS) } else { row.percentile(100) };
        match row.percentile(50) {
            Some(ms) => {
                let (y, y_worst) = (y_of(ms), y_of(worst.unwrap_or(ms)));
                *svg += &format!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{y_worst:.1}\" \
                     stroke=\"{colour}\"/>\
                     <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>\n"
                );
                if loss.burst <= 1.0 {
                    points.push(format!("{x:.1},{y:.1}"));
                }
            }
            None => {
                *svg += &format!(
                    "<circle cx=\"{x:.1}\" cy=\"{TOP}\" r=\"5\" fill=\"#fff\" stroke=\"{colour}\" \
                     stroke-width=\"2\"/>\n"
                );
            }
        }
    }
    if points.len() > 1 {
        *svg += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-opacity=\"0.5\"/>\n",
            points.join(" ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::{Depth, plan};
    use super::super::crew::Outcome;
    use super::*;

    #[test]
    fn every_series_shows_and_a_timeout_is_hollow() {
        let mut rows = Vec::new();
        for cell in plan(Depth::Full).into_iter().filter(|cell| cell.kind == Kind::Block) {
            let mut row = Row::new(cell);
            row.add(&Outcome { ms: Some(40.0), ..Outcome::default() });
            rows.push(row);
        }
        let whole = svg(&rows);
        assert!(SERIES.iter().all(|(_, _, name, _)| whole.contains(name)));
        // BFR has ten points a series, each rival six.
        assert_eq!(whole.matches("r=\"4\"").count(), 2 * 10 + 6 * 6);
        let mut late = Row::new(rows[0].cell);
        late.add(&Outcome::default());
        // One in the legend, one in the panel.
        assert_eq!(svg(&[late]).matches("r=\"5\"").count(), 2);
    }

    #[test]
    fn the_axis_runs_from_its_least_to_its_most() {
        assert!((y_of(LEAST_MS) - (TOP + PANEL_H)).abs() < 1e-9);
        assert!((y_of(MOST_MS) - TOP).abs() < 1e-9);
        assert!(y_of(100.0) > y_of(1_000.0));
    }
}
