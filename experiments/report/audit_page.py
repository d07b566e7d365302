"""The page of an audit: what attacks find, beside what is claimed."""

from typing import Any

from experiments.report.parts import Cell, Columns, Page, Plot, Series, Table, count, plain


def audit(content: dict[str, Any]) -> Page:
    """Canaries, inversion and membership; parts that were not asked for are not in it."""
    found = content.get("canaries", [])
    rows = [_canaries(one) for one in found]
    if read := content.get("inversion"):
        for words, key in (("one round", ""), (f"{read['rounds']} rounds", "_all")):
            for what in ("label", "cosine"):
                title = f"a user's one example read, {words}: {what}"
                allowed = f"by chance {read['chance']:.2f}" if what == "label" else "-"
                figures = read["on"][what + key], read["off"][what + key]
                most = Cell(allowed, (read["chance"] if what == "label" else None,))
                rows.append([plain(title), *(count(v, ".3f") for v in figures), most])
    if member := content.get("membership"):
        bound = member["bound"]
        allowed = "-" if bound is None else f"{bound:.3f} (epsilon {member['epsilon']:.3g})"
        figures = (count(member["on"], ".3f"), count(member["off"], ".3f"))
        title = f"membership by {member['attacked']}: AUC"
        rows.append([plain(title), *figures, Cell(allowed, (bound,))])
    columns: Columns = [
        ("attack", ("attack",)), ("finds", ("finds",)), ("without privacy", ("without",)),
        ("allowed", ("allowed",)),
    ]  # fmt: skip
    table = Table("audit", "What attacks find, beside what is claimed", columns, rows)
    facts = [("audits", str(len(found)))] if found else []
    return Page(
        "fedmeta: audit", _verdict(found), facts, [table], [_plot(found)], _notes(found), "", "", []
    )


def _canaries(one: dict[str, Any]) -> list[Cell]:
    told = "none" if one["claimed"] is None else f"{one['claimed']:.3g} at delta {one['delta']:g}"
    title = f"{one['canaries']} canaries, {one['right']} of {one['guesses']} guesses right: epsilon"
    words = f"at least {one['lower_bound']:.3g}" + (" REFUTES THE CLAIM" if one["refuted"] else "")
    return [plain(title), Cell(words, (one["lower_bound"],)), count(None),
            Cell(told, (one["claimed"],))]  # fmt: skip


def _verdict(found: list[dict[str, Any]]) -> str:
    if not found:
        return "No canaries were asked for: nothing here can refute a claim."
    bound = max(one["lower_bound"] for one in found)
    claimed = found[0]["claimed"]
    if claimed is None:
        return f"Nothing is claimed here; canaries show an epsilon of at least {bound:.3g}."
    if refuted := sum(one["refuted"] for one in found):
        return (
            f"The claim is refuted by {refuted} of {len(found)} audits: canaries show an epsilon of"
            f" at least {bound:.3g}, and {claimed:.3g} is claimed."
        )
    return (
        f"The claim stands: canaries show an epsilon of at least {bound:.3g}, and {claimed:.3g} is"
        f" claimed. That they did not refute it does not prove it."
    )


def _plot(found: list[dict[str, Any]]) -> Plot:
    title = "Lower bounds beside the claim"
    if not found:
        return Plot("audit", title, missing="No canaries were asked for.")
    names = [f"audit {number}" for number in range(1, len(found) + 1)]
    series = [
        Series("lower bound", names, [one["lower_bound"] for one in found], kind="bars", tone=0),
        Series("claimed", names, [one["claimed"] for one in found], kind="bars", tone=1),
    ]
    caption = (
        "Each bound holds with 95 % confidence; each audit is one run under a seed of its own."
    )
    return Plot("audit", title, caption, "", "epsilon", {"": series})


def _notes(found: list[dict[str, Any]]) -> list[str]:
    notes = []
    if found and (could := found[0].get("power")):
        caught = could["caught_at_a_third"]
        notes.append(
            f"Canaries saw {found[0]['seen']} of {found[0]['rounds']} rounds. Right noise gives"
            f" {could['at_claimed_noise']:.3g}, a third of it {could['at_a_third']:.3g}"
            + ("" if caught is None else f" (caught in {100 * caught:.0f} % of runs)")
            + f". The audit can find at most {could['largest']:.3g}: none above is refuted."
        )
    return notes
