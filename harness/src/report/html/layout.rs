//! Where the layers of a network lie in its picture: columns by depth, broken into lines as a text is.

use std::collections::HashSet;

/// Most lines whose skipping edges get an offset of their own.
const OFFSETS: usize = 4;

/// Sizes of a picture, in its units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sizes {
    /// Extent of the picture from left to right, borders included.
    pub width: f64,
    /// Of the box of a layer.
    pub node: [f64; 2],
    /// Between boxes.
    pub gap: [f64; 2],
}

/// A picture.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    /// The upper left corner of each box.
    pub corners: Vec<[f64; 2]>,
    /// Each edge as the path of an SVG, with the layer that it leads from and to.
    pub edges: Vec<(usize, usize, String)>,
    /// Extent from top to bottom.
    pub height: f64,
}

/// Where a layer lies: its column, counted over all lines, and its row among those of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cell {
    column: usize,
    row: usize,
}

/// Left and right of the lines: room for edges that skip lines.
const BORDER: f64 = 22.0;

/// Lays a network out. `inputs` are the layers that each layer reads, all of them before it.
pub(super) fn layout(inputs: &[Vec<usize>], sizes: Sizes) -> Layout {
    let cells = cells(inputs);
    let columns = cells.iter().map(|cell| cell.column + 1).max().unwrap_or(0);
    let [width, height] = sizes.node;
    let [gap, row_gap] = sizes.gap;
    let step = width + gap;
    let a_line = (((sizes.width - 2.0 * BORDER + gap) / step) as usize).max(1);
    let lines = columns.div_ceil(a_line);
    let mut rows = vec![1usize; lines];
    for cell in &cells {
        let line = cell.column / a_line;
        rows[line] = rows[line].max(cell.row + 1);
    }
    // Between two lines lie the edges from one to the other, above a line those that skip layers.
    let gutter = row_gap + 10.0;
    let mut tops = Vec::with_capacity(lines + 1);
    let mut top = row_gap + 8.0;
    for &rows in &rows {
        tops.push(top);
        top += rows as f64 * (height + row_gap) + gutter;
    }
    tops.push(top);
    let corner = |cell: &Cell| {
        let (line, column) = (cell.column / a_line, cell.column % a_line);
        [
            BORDER + column as f64 * step,
            tops[line] + cell.row as f64 * (height + row_gap),
        ]
    };
    let corners: Vec<[f64; 2]> = cells.iter().map(corner).collect();
    let boxes: HashSet<Cell> = cells.iter().copied().collect();
    let taken = |column: usize, row: usize| boxes.contains(&Cell { column, row });
    let mut edges = Vec::new();
    for (to, inputs) in inputs.iter().enumerate() {
        for &from in inputs {
            let (a, b) = (cells[from], cells[to]);
            let ([x1, y1], [x2, y2]) = (corners[from], corners[to]);
            let (x1, y1, y2) = (x1 + width, y1 + height / 2.0, y2 + height / 2.0);
            let (line, target_line) = (a.column / a_line, b.column / a_line);
            let half = gap / 2.0;
            let path = if line == target_line {
                let between = || a.column + 1..b.column;
                if between().all(|column| !taken(column, a.row)) {
                    // Along the row that it comes from.
                    let turn = x2 - gap;
                    format!(
                        "M{x1:.1} {y1:.1}H{turn:.1}C{0:.1} {y1:.1} {0:.1} {y2:.1} {x2:.1} {y2:.1}",
                        turn + half
                    )
                } else if between().all(|column| !taken(column, b.row)) {
                    let turn = x1 + gap;
                    format!(
                        "M{x1:.1} {y1:.1}C{0:.1} {y1:.1} {0:.1} {y2:.1} {turn:.1} {y2:.1}H{x2:.1}",
                        x1 + half
                    )
                } else {
                    // Over the boxes between; the control points of a curve lie higher than it gets.
                    let above = y1.min(y2) - (height / 2.0 + row_gap * 0.6) / 0.75;
                    format!(
                        "M{x1:.1} {y1:.1}C{:.1} {above:.1} {:.1} {above:.1} {x2:.1} {y2:.1}",
                        x1 + half,
                        x2 - half
                    )
                }
            } else {
                let offset = (from % OFFSETS) as f64 * 3.0;
                let down = tops[line + 1] - gutter - row_gap + offset + 8.0;
                let (out, back) = (x1 + half.min(BORDER) - 1.0, x2 - half.min(BORDER) + 1.0);
                if target_line == line + 1 {
                    format!("M{x1:.1} {y1:.1}H{out:.1}V{down:.1}H{back:.1}V{y2:.1}H{x2:.1}")
                } else {
                    let side = 2.0 + offset;
                    let above = tops[target_line] - gutter - row_gap + offset + 8.0;
                    format!(
                        "M{x1:.1} {y1:.1}H{out:.1}V{down:.1}H{side:.1}V{above:.1}H{back:.1}V{y2:.1}H{x2:.1}"
                    )
                }
            };
            edges.push((from, to, path));
        }
    }
    Layout {
        corners,
        edges,
        height: top,
    }
}

/// A column right of all that a layer reads, and the row of what it reads where that is free.
fn cells(inputs: &[Vec<usize>]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::with_capacity(inputs.len());
    let mut taken: Vec<Vec<bool>> = Vec::new();
    for inputs in inputs {
        let before = inputs.iter().map(|&from| cells[from]);
        let column = before.clone().map(|c| c.column + 1).max().unwrap_or(0);
        let wanted = before.map(|c| c.row).min().unwrap_or(0);
        if taken.len() <= column {
            taken.resize(column + 1, Vec::new());
        }
        let rows = &mut taken[column];
        let free = |row: usize, rows: &[bool]| !rows.get(row).copied().unwrap_or(false);
        // Behind the last row there is always room.
        let row = (wanted..rows.len()).find(|&row| free(row, rows));
        let row = row.unwrap_or_else(|| wanted.max(rows.len()));
        if rows.len() <= row {
            rows.resize(row + 1, false);
        }
        rows[row] = true;
        cells.push(Cell { column, row });
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        width: 300.0,
        node: [40.0, 20.0],
        gap: [20.0, 10.0],
    };

    #[test]
    fn branches_lie_side_by_side_and_lines_break() {
        // 0 -> 1 -> 2 -> 4, 0 -> 3 -> 4, then a chain.
        let mut inputs = vec![vec![], vec![0], vec![1], vec![0], vec![2, 3]];
        for index in 5..12 {
            inputs.push(vec![index - 1]);
        }
        let found = cells(&inputs);
        let cell = |column, row| Cell { column, row };
        assert_eq!(
            found[..5],
            [cell(0, 0), cell(1, 0), cell(2, 0), cell(1, 1), cell(3, 0)]
        );
        let layout = layout(&inputs, SIZES);
        assert_eq!(layout.edges.len(), 12);
        for (index, corner) in layout.corners.iter().enumerate() {
            assert!(corner[0] >= 0.0 && corner[0] + SIZES.node[0] <= SIZES.width);
            assert!(corner[1] + SIZES.node[1] <= layout.height);
            for other in &layout.corners[..index] {
                let apart = |axis: usize| (corner[axis] - other[axis]).abs() >= SIZES.node[axis];
                assert!(apart(0) || apart(1), "boxes {index} overlap");
            }
        }
        // The second line begins at the left, below the first.
        assert_eq!(layout.corners[5][0], layout.corners[0][0]);
        assert!(layout.corners[5][1] > layout.corners[3][1]);
    }

    #[test]
    fn nothing_is_a_picture_too() {
        let layout = layout(&[], SIZES);
        assert!(layout.corners.is_empty() && layout.height > 0.0);
    }
}
