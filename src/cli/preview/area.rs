use image::DynamicImage;

/// How large a picture is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) columns: u16,
    pub(super) rows: u16,
    /// In pixels.
    pub(super) height: u32,
    /// In pixels.
    pub(super) width: u32,
}

impl Area {
    /// As high as its rows, and never wider than the terminal. A column is half as wide as a row is high.
    pub(super) fn of(picture: &DynamicImage, rows: u16, columns: u16, row_height: u16) -> Self {
        let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
        let wanted = f64::from(rows) * 2.0 * width / height.max(1.0);
        let columns = wanted.round().clamp(1.0, f64::from(columns.max(2) - 1)) as u16;
        Self {
            columns,
            rows,
            height: u32::from(rows) * u32::from(row_height),
            width: u32::from(columns) * u32::from(row_height.div_ceil(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_as_high_as_its_rows_and_fits_the_width() {
        let wide = DynamicImage::new_rgb8(512, 256);
        let area = Area::of(&wide, 10, 80, 20);
        assert_eq!((area.columns, area.rows), (40, 10));
        assert_eq!((area.width, area.height), (400, 200));
        assert_eq!(Area::of(&wide, 10, 31, 20).columns, 30);
    }
}
