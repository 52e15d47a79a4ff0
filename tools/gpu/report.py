"""The check's JSON as tables: what held, what did not, and the figures."""

from __future__ import annotations

# Kept out of the tables: long, or shown elsewhere.
_HIDDEN = {"traceback", "ratios", "took"}
_FIRST = ("of", "what", "family", "type", "preset", "regions", "tokens", "ok")
# Of a benchmark's row, which has some thirty figures.
# fmt: off
_ATTENTION = ("family", "tokens", "regions", "overlap", "hint_tokens", "groups", "plain", "grouped", "dense", "flex",
              "varlen", "grouped_extra_mib", "dense_extra_mib", "largest_difference", "flex_left_out", "ok")
# fmt: on


def markdown(results: dict) -> str:
    machine = results["machine"]
    lines = ["# Check on a GPU", ""]
    device = machine.get("gpu") or f"No GPU: small sizes on {machine.get('cpu')}"
    lines.append(
        f"{device}, torch {machine.get('torch')}, Python {machine.get('python')}, ComfyUI {machine.get('comfyui')}, "
        f"{results['begun']}, {results['seconds']:.0f} s{'' if results['finished'] else '; **not finished**'}."
    )
    if machine.get("placeholders"):
        lines.append(f"Not installed, so placeholders: {', '.join(machine['placeholders'])}.")
    lines += ["", "| Part | Result | Rows | Failed | Left out | Seconds |", "| --- | --- | --- | --- | --- | --- |"]
    for part in results["parts"]:
        rows = part["rows"]
        failed = sum(row.get("ok") is False or "error" in row for row in rows)
        out = sum("left_out" in row for row in rows)
        lines.append(f"| {part['name']} | {_status(part)} | {len(rows)} | {failed} | {out} | {part['seconds']:.0f} |")
    for part in results["parts"]:
        lines += _part(part)
    return "\n".join(lines) + "\n"


def _status(part: dict) -> str:
    status = part["status"]
    return status if status == "passed" or status.startswith("left out") else f"**{status}**"


def _part(part: dict) -> list[str]:
    lines = ["", f"## {part['name']}", ""]
    shapes: dict[tuple, list[dict]] = {}
    for row in part["rows"]:
        if "error" not in row and "left_out" not in row:
            shapes.setdefault(tuple(_columns(row)), []).append(row)
    for columns, rows in shapes.items():
        lines += [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
        for row in rows:
            cells = [f"**{_cell(False)}**" if name == "ok" and not row[name] else _cell(row[name]) for name in columns]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    for row in part["rows"]:
        if "error" in row or "left_out" in row:
            said = f"**{row['error']}**" if "error" in row else f"left out: {row['left_out']}"
            lines.append(f"- {_labels(row)}{' '.join(said.split())[:400]}")
    if part["error"]:
        lines += ["", "```", part["error"].strip()[-3000:], "```"]
    return lines


def _columns(row: dict) -> list[str]:
    if row.get("of") == "attention":
        return [name for name in _ATTENTION if row.get(name) is not None]
    names = [name for name in row if name not in _HIDDEN and row[name] is not None]
    return sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


def _labels(row: dict) -> str:
    hidden = {"error", "left_out", "traceback", "took"}
    said = ", ".join(f"{name} {_cell(value)}" for name, value in row.items() if name not in hidden)
    return f"{said}: " if said else ""


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, dict):
        return " ".join(f"{name}={_cell(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    return str(value).replace("|", "\\|")
