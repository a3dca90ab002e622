from __future__ import annotations

import io

from rich.console import Console

from cell_lm.engine.progress import Bar, Lines, Silent, make_display

DESCRIBED = "loss 3.5000, masked genes right 25.0%, 1,234 cells/s"


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=120), out


def test_a_terminal_gets_a_bar_a_file_gets_lines_and_silence_is_silent() -> None:
    terminal, _ = console(terminal=True)
    file, _ = console(terminal=False)
    assert type(make_display(10, 0, progress=True, console=terminal)) is Bar
    assert type(make_display(10, 0, progress=True, console=file)) is Lines
    assert type(make_display(10, 0, progress=False, console=terminal)) is Silent


def test_lines_come_at_intervals_and_at_the_last_step() -> None:
    file, out = console(terminal=False)
    now = iter(range(0, 1000, 4))
    lines = Lines(file, steps=12, done=0, clock=lambda: float(next(now)))
    for step in range(1, 13):
        lines.step(step, DESCRIBED)
    said = out.getvalue().splitlines()
    assert [line.split(":")[0] for line in said] == ["step 1/12", "step 5/12", "step 9/12", "step 12/12"]
    assert said[1] == "step 5/12: loss 3.5000, masked genes right 25.0%, 1,234 cells/s, 0:00:28 left"


def test_the_time_left_of_a_resumed_run_counts_its_own_steps_only() -> None:
    file, out = console(terminal=False)
    now = iter([0.0, 10.0])
    Lines(file, steps=100, done=90, clock=lambda: next(now)).step(91, DESCRIBED)
    assert out.getvalue().strip().endswith("0:01:30 left")


def test_a_long_note_stays_on_one_line_and_is_no_markup() -> None:
    file, out = console(terminal=False)
    Lines(file, 1, 0).note("[red]" + "x" * 300)
    assert out.getvalue() == "[red]" + "x" * 300 + "\n"


def test_the_bar_shows_steps_loss_accuracy_speed() -> None:
    terminal, out = console(terminal=True)
    with make_display(40, 10, progress=True, console=terminal) as bar:
        bar.step(20, DESCRIBED)
    shown = out.getvalue()
    assert "20/40" in shown
    assert "loss 3.5000, masked genes right 25.0%, 1,234 cells/s" in shown
