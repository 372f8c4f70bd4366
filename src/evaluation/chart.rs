use std::fmt::Write as _;

use super::score::{MOMENTS, ScoredJob};

/// The side of the plot, in pixels.
const SIDE: f64 = 640.0;

/// The margin on each side of the plot, in pixels.
const MARGIN: f64 = 60.0;

/// Longer predictions are drawn at this multiple of the job's duration.
const MAX_SHARE: f64 = 1.5;

/// The width of the image, in pixels.
const WIDTH: f64 = SIDE + 2.0 * MARGIN;

/// The height of the image, in pixels.
const HEIGHT: f64 = SIDE * MAX_SHARE + 2.0 * MARGIN;

/// An SVG of predicted against true remaining time: one line for each job, both axes in shares of its
/// duration.
pub fn draw(jobs: &[ScoredJob]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n\
         <title>Predicted against true remaining time</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    draw_axes(&mut svg);
    for job in jobs {
        draw_job(&mut svg, job);
    }
    let _ = write!(
        svg,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"black\" stroke-width=\"2\"/>\n\
         <text x=\"{MARGIN}\" y=\"30\">remaining time as predicted, in % of the job's duration: \
         <tspan fill=\"#0072b2\">known</tspan> and <tspan fill=\"#d55e00\">first-time</tspan> \
         workflows, {} jobs, {MOMENTS} moments each</text>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">true remaining time</text>\n</svg>\n",
        x(1.0),
        y(1.0),
        x(0.0),
        y(0.0),
        jobs.len(),
        WIDTH / 2.0,
        HEIGHT - 12.0
    );
    svg
}

fn draw_axes(svg: &mut String) {
    for percent in (0..=150).step_by(25) {
        let share = f64::from(percent) / 100.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{MARGIN} {0:.1}h{SIDE}\" stroke=\"#ddd\"/><text x=\"{1}\" y=\"{0:.1}\" \
             text-anchor=\"end\" dy=\".35em\">{percent} %</text>",
            y(share),
            MARGIN - 8.0
        );
        if percent <= 100 {
            let (x, y) = (x(share), y(0.0) + 20.0);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{percent} %</text>"
            );
        }
    }
}

/// Draws the relay's answers, which are the first ones.
fn draw_job(svg: &mut String, job: &ScoredJob) {
    let color = if job.is_known { "#0072b2" } else { "#d55e00" };
    let mut points = String::new();
    for (moment, answers) in job.answers.iter().enumerate() {
        if let Some(predicted) = answers[0].remaining {
            let left = job.remaining(moment) / job.duration;
            let _ = write!(points, "{:.1},{:.1} ", x(left), y(predicted / job.duration));
        }
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-opacity=\".35\">\
         <title>{}/{}, {:.1} s</title></polyline>",
        escape(&job.version),
        escape(&job.scenario),
        job.duration
    );
}

/// The position of a true remaining time. Time runs from left to right, so the remaining time falls.
fn x(share: f64) -> f64 {
    MARGIN + (1.0 - share) * SIDE
}

/// The position of a predicted remaining time.
fn y(share: f64) -> f64 {
    HEIGHT - MARGIN - share.min(MAX_SHARE) * SIDE
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
