//! The screen of `metanode top`: two tables, drawn again after every interval, until `q`.

use super::attach::{Attached, TopError};
use super::reading::Reading;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Row, Table, TableState};
use std::time::{Duration, Instant};

/// A tile this busy (or this often without credit) is marked, percent.
const MARKED_PERCENT: f64 = 80.0;

/// Draws until somebody presses `q`, or the node ends.
pub(super) fn run(attached: &Attached, interval: Duration) -> Result<(), TopError> {
    let mut terminal = ratatui::try_init()?;
    let mut before = attached.raw();
    let mut reading = attached.between(&before, &before);
    let mut links = TableState::default().with_selected(0);
    let mut due = Instant::now() + interval;
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| draw(frame, &reading, &mut links)) {
            break Err(error.into());
        }
        let left = due.saturating_duration_since(Instant::now());
        match event::poll(left)
            .and_then(|some| if some { event::read().map(Some) } else { Ok(None) })
        {
            Err(error) => break Err(error.into()),
            Ok(Some(Event::Key(key))) => match key.code {
                KeyCode::Char('q') | KeyCode::Esc => break Ok(()),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => break Ok(()),
                KeyCode::Down | KeyCode::Char('j') => links.select_next(),
                KeyCode::Up | KeyCode::Char('k') => links.select_previous(),
                _ => {}
            },
            Ok(_) => {}
        }
        if Instant::now() >= due {
            if !attached.is_running() {
                break Ok(());
            }
            let now = attached.raw();
            reading = attached.between(&before, &now);
            before = now;
            due = Instant::now() + interval;
        }
    };
    ratatui::restore();
    ended
}

fn widths<const N: usize>(first: u16) -> [Constraint; N] {
    let mut widths = [Constraint::Length(10); N];
    widths[0] = Constraint::Length(first);
    widths
}

fn draw(frame: &mut Frame<'_>, reading: &Reading, links: &mut TableState) {
    let tiles_high = reading.tiles.len() as u16 + 3;
    let [above, below, foot] = Layout::vertical([
        Constraint::Length(tiles_high),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let title = format!(" process {}: percent of the wall time ", reading.pid);
    let rows = reading.tiles.iter().zip(reading.tile_rows()).map(|(tile, row)| {
        let style = if tile.regime_percent(2) > MARKED_PERCENT {
            Style::new().fg(Color::Red)
        } else if tile.regime_percent(1) > MARKED_PERCENT {
            Style::new().fg(Color::Yellow)
        } else {
            Style::new()
        };
        Row::new(row.map(Cell::from)).style(style)
    });
    let tiles = Table::new(rows, widths::<12>(14))
        .header(Row::new(Reading::TILE_TITLES).bold())
        .block(Block::bordered().title(title));
    frame.render_widget(tiles, above);
    let rows = reading.links.iter().zip(reading.link_rows()).map(|(link, row)| {
        let full = link.used * 2 > u64::from(link.depth);
        let style = if full { Style::new().fg(Color::Yellow) } else { Style::new() };
        Row::new(row.map(Cell::from)).style(style)
    });
    let table = Table::new(rows, widths::<7>(30))
        .header(Row::new(Reading::LINK_TITLES).bold())
        .row_highlight_style(Style::new().reversed())
        .block(Block::bordered().title(" links "));
    frame.render_stateful_widget(table, below, links);
    frame.render_widget(Line::from(" q ends, up and down move through the links").dim(), foot);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::{LinkRate, TileRate};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn the_screen_shows_every_tile_and_every_link() {
        let tile = |name: &str, busy: f64| TileRate {
            name: name.into(),
            core: Some(0),
            state: "run",
            percent: [[0.0; 3], [0.0; 3], [1.0, busy, 0.0]],
            parked_percent: 0.0,
            frags_per_s: 5.0,
            counters: Vec::new(),
        };
        let link = LinkRate {
            name: "validate_shard:0.0".into(),
            depth: 256,
            used: 255,
            frags_per_s: 1.0,
            backpressure_per_s: 2.0,
            shed: 0,
            overrun: 0,
            large: 0,
            slowest: Some("shard:0".into()),
        };
        let reading = Reading {
            pid: 42,
            seconds: 1.0,
            tiles: vec![tile("validate:0", 97.5), tile("shard:0", 3.5)],
            links: vec![link],
        };
        let mut terminal = Terminal::new(TestBackend::new(140, 20)).expect("a screen in memory");
        let mut state = TableState::default();
        terminal.draw(|frame| draw(frame, &reading, &mut state)).expect("drawn");
        let text: String = terminal
            .backend()
            .buffer()
            .content()
            .iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect();
        for wanted in ["process 42", "validate:0", "97.5", "shard:0", "validate_shard:0.0", "255"] {
            assert!(text.contains(wanted), "{wanted} is not on the screen");
        }
    }
}
