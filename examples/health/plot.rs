//! The plot: how soon a dead line is left, and how often one that lives.

use std::fmt::Write as _;

/// Of mh-watch first.
const COLOURS: [&str; 5] = ["#0369a1", "#a16207", "#7c3aed", "#15803d", "#b91c1c"];

const HEAD: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 380" role="img" aria-labelledby="t d"
     font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13">
  <title id="t">How soon a dead line is left, and how often one that lives</title>
  <desc id="d">Left: seconds from the death of a line until each program leaves it, median to worst, at 2 % loss. Right:
    how often a month each program leaves a line that lives, by its random loss. The numbers are in figures.md.</desc>
  <style>
    .page { fill: #f8fafc; stroke: #94a3b8; }
    .grid { stroke: #cbd5e1; }
    .b    { font-weight: 600; fill: #0f172a; }
    .s    { font-size: 12px; fill: #334155; }
  </style>
  <rect class="page" x="1" y="1" width="878" height="378" rx="10"/>
"#;

/// Seconds (median, 99th of a hundred, worst) of each program, and alarms a month of each by loss.
pub fn draw(names: &[String], seconds: &[[f64; 3]], alarms: &[(f64, Vec<u32>)]) -> String {
    let mut svg = HEAD.to_owned();
    bars(&mut svg, names, seconds);
    curves(&mut svg, names, alarms);
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, r#"  <text class="{class}" x="{x:.0}" y="{y:.0}" text-anchor="{anchor}">{text}</text>"#);
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], style: &str) {
    let _ = writeln!(svg, r#"  <line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" {style}/>"#);
}

fn bars(svg: &mut String, names: &[String], seconds: &[[f64; 3]]) {
    let x = |seconds: f64| 150.0 + seconds.max(1.0).log10() * 110.0;
    text(svg, "b", 20.0, 30.0, "start", "Seconds until a dead line is left (2 % loss)");
    for tick in [1.0, 3.0, 10.0, 30.0, 100.0] {
        line(svg, [x(tick), 50.0, x(tick), 330.0], r#"class="grid""#);
        text(svg, "s", x(tick), 350.0, "middle", &tick.to_string());
    }
    for (index, (name, [median, _, worst])) in names.iter().zip(seconds).enumerate() {
        let (y, colour) = (80.0 + 55.0 * index as f64, COLOURS[index]);
        text(svg, "s", 140.0, y + 4.0, "end", name);
        line(svg, [x(*median), y, x(*worst), y], &format!(r#"stroke="{colour}" stroke-width="6""#));
        let _ = writeln!(svg, r#"  <circle cx="{:.1}" cy="{y:.1}" r="7" fill="{colour}"/>"#, x(*median));
        let anchor = if *median > 30.0 { "end" } else { "start" };
        text(svg, "s", x(*median), y + 24.0, anchor, &format!("{median:.1}, worst {worst:.1}"));
    }
}

fn curves(svg: &mut String, names: &[String], alarms: &[(f64, Vec<u32>)]) {
    let x = |index: usize| 510.0 + 50.0 * index as f64;
    // None is drawn below one.
    let y = |alarms: u32| if alarms == 0 { 330.0 } else { 300.0 - f64::from(alarms).log10() * 46.0 };
    text(svg, "b", 450.0, 30.0, "start", "False alarms a month, by random loss");
    text(svg, "s", 450.0, 368.0, "start", "Where a curve falls, the program leaves the line for good.");
    for (alarms, label) in [(0, "none"), (1, "1"), (10, "10"), (100, "100"), (1000, "1,000"), (10_000, "10,000")] {
        line(svg, [500.0, y(alarms), 770.0, y(alarms)], r#"class="grid""#);
        text(svg, "s", 494.0, y(alarms) + 4.0, "end", label);
    }
    for (index, (loss, _)) in alarms.iter().enumerate() {
        text(svg, "s", x(index), 350.0, "middle", &format!("{} %", loss * 100.0));
    }
    for (program, name) in names.iter().enumerate() {
        let points = alarms.iter().enumerate().map(|(index, (_, cells))| (x(index), y(cells[program])));
        let points: Vec<_> = points.map(|(x, y)| (x, y - 2.0 * program as f64)).collect();
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (colour, last) = (COLOURS[program], points[points.len() - 1]);
        let _ = writeln!(
            svg,
            r#"  <polyline points="{}" fill="none" stroke="{colour}" stroke-width="2.5"/>"#,
            path.join(" ")
        );
        let name = name.split(' ').next().unwrap_or(name);
        let _ = writeln!(
            svg,
            r#"  <text font-size="12" fill="{colour}" x="{:.0}" y="{:.0}">{name}</text>"#,
            last.0 + 8.0,
            last.1 + 4.0
        );
    }
}
