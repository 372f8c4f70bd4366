//! [`Table`]: rows of text in columns.

use console::{Alignment, Style, Term, measure_text_width, pad_str, truncate_str};

use super::output::printable_line;

/// What stands between two columns.
const GAP: &str = "  ";

/// Rows whose columns are as wide as their widest cell, below a heading.
#[derive(Debug)]
pub(super) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// A text in a table, and how it looks.
#[derive(Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text from elsewhere, without what could change the terminal.
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: printable_line(text),
            style: Style::new(),
        }
    }

    pub(super) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        Self {
            heading: heading.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The lines of the table, cut off at the width of the terminal if standard output is one.
    pub(super) fn lines(&self) -> Vec<String> {
        let columns = Term::stdout().size_checked();
        self.lines_within(columns.map(|(_, columns)| columns.into()))
    }

    fn lines_within(&self, columns: Option<usize>) -> Vec<String> {
        let widths: Vec<usize> = (0..self.heading.len())
            .map(|at| {
                let cells = self
                    .rows
                    .iter()
                    .map(|row| measure_text_width(&row[at].text));
                cells
                    .chain([measure_text_width(&self.heading[at])])
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        let line = |cells: Vec<(&str, &Style)>| {
            let padded = cells
                .into_iter()
                .zip(&widths)
                .map(|((text, style), &width)| {
                    let text = pad_str(text, width, Alignment::Left, None);
                    style.apply_to(text).to_string()
                });
            let line = padded.collect::<Vec<_>>().join(GAP);
            match columns {
                Some(columns) => truncate_str(line.trim_end(), columns, "…").into_owned(),
                None => line.trim_end().to_owned(),
            }
        };
        let bold = Style::new().bold();
        let heading = self
            .heading
            .iter()
            .map(|name| (name.as_str(), &bold))
            .collect();
        let rows = self.rows.iter().map(|row| {
            line(
                row.iter()
                    .map(|cell| (cell.text.as_str(), &cell.style))
                    .collect(),
            )
        });
        [line(heading)].into_iter().chain(rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_as_the_terminal() {
        let mut table = Table::new(&["JOB", "MESSAGE"]);
        table.add(vec![
            Cell::new("shot-12"),
            Cell::new("KSampler: step 5\u{1b}[2J"),
        ]);
        table.add(vec![Cell::new("a"), Cell::new("")]);
        let plain = |columns| -> Vec<String> {
            let lines = table.lines_within(columns);
            lines
                .iter()
                .map(|line| console::strip_ansi_codes(line).into_owned())
                .collect()
        };
        let wide = [
            "JOB      MESSAGE",
            "shot-12  KSampler: step 5\u{fffd}[2J",
            "a",
        ];
        assert_eq!(plain(None), wide);
        assert_eq!(
            plain(Some(16)),
            ["JOB      MESSAGE", "shot-12  KSampl…", "a"]
        );
    }
}
