//! Pictures as sixels: bands of six rows, each drawn once for every colour in it.

use std::fmt::Write;

use image::RgbImage;

/// The steps of each of red, green and blue: 216 colours, as many as a terminal with 256 has room for.
const STEPS: u16 = 6;

/// How many rows a band has.
const BAND: u32 = 6;

/// The thresholds of an ordered dither of 4 × 4 pixels, in sixteenths of a step: gradients have no edges.
const DITHER: [[u16; 4]; 4] = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]];

/// The sequence that draws a picture.
pub(super) fn sixels(picture: &RgbImage) -> String {
    let (width, height) = picture.dimensions();
    // Pixels are square, and what is not drawn stays as it is.
    let mut text = format!("\x1bP0;1q\"1;1;{width};{height}");
    for colour in 0..STEPS.pow(3) {
        let percent = |part: u16| part * 100 / (STEPS - 1);
        let (red, green, blue) = (
            colour / STEPS.pow(2),
            colour / STEPS % STEPS,
            colour % STEPS,
        );
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "#{colour};2;{};{};{}",
            percent(red),
            percent(green),
            percent(blue)
        );
    }
    for top in (0..height).step_by(BAND as usize) {
        draw_band(&mut text, picture, top);
        text.push('-');
    }
    text.push_str("\x1b\\");
    text
}

fn draw_band(text: &mut String, picture: &RgbImage, top: u32) {
    let (width, height) = picture.dimensions();
    let rows = BAND.min(height - top);
    let mut masks = vec![None::<Vec<u8>>; usize::from(STEPS.pow(3))];
    for row in 0..rows {
        for x in 0..width {
            let colour = nearest(picture, x, top + row);
            let mask = masks[colour].get_or_insert_with(|| vec![0; width as usize]);
            mask[x as usize] |= 1 << row;
        }
    }
    for (colour, mask) in masks.iter().enumerate() {
        let Some(mask) = mask else { continue };
        let _ = write!(text, "#{colour}");
        for run in mask.chunk_by(|a, b| a == b) {
            let sixel = char::from(b'?' + run[0]);
            if run.len() > 3 {
                let _ = write!(text, "!{}{sixel}", run.len());
            } else {
                text.extend(run.iter().map(|_| sixel));
            }
        }
        // Back to the start of the band.
        text.push('$');
    }
}

fn nearest(picture: &RgbImage, x: u32, y: u32) -> usize {
    let threshold = DITHER[(y % 4) as usize][(x % 4) as usize];
    let step = |part: u8| {
        let sixteenths = u16::from(part) * (STEPS - 1) * 16 / 255;
        ((sixteenths + threshold) / 16).min(STEPS - 1)
    };
    let [red, green, blue] = picture.get_pixel(x, y).0.map(step);
    usize::from((red * STEPS + green) * STEPS + blue)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn each_colour_of_a_band_is_drawn_once() {
        let mut picture = RgbImage::from_pixel(8, 7, Rgb([255, 0, 0]));
        picture.put_pixel(0, 0, Rgb([0, 0, 255]));
        let text = sixels(&picture);
        assert!(
            text.starts_with("\x1bP0;1q\"1;1;8;7#0;2;0;0;0#1;2;0;0;20"),
            "{text}"
        );
        let (_, drawn) = text.split_once("#215;2;100;100;100").unwrap();
        // Blue: the first row of the first column. Red: all else; the second band has one row.
        assert_eq!(drawn, "#5@!7?$#180}!7~$-#180!8@$-\x1b\\");
    }

    #[test]
    fn black_and_white_are_not_dithered() {
        for (value, colour) in [(0, 0), (255, 215)] {
            let picture = RgbImage::from_pixel(4, 4, Rgb([value; 3]));
            let all = (0..16).map(|pixel| nearest(&picture, pixel % 4, pixel / 4));
            assert!(all.into_iter().all(|found| found == colour));
        }
    }
}
