"""``certify deploy`` and ``rollout``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.context import CommandLine, as_json, confirm_root, pass_settings, print_json, table
from certify.errors import RolloutError, UsageError

if TYPE_CHECKING:
    from certify.config import Config, Fleet
    from certify.deploy.driver import FleetDriver
    from certify.deploy.plan import Plan
    from certify.deploy.rollout import Action, Rollout
    from certify.hooks import Plugins
    from certify.ledger.rollouts import RolloutLedger

_YES = {"done", "done-with-warnings"}


@click.command()
@click.argument("channel", metavar="CHANNEL")
@click.option("--fleet", "fleet_path", required=True, type=click.Path(path_type=Path), help="fleet.yaml")
@click.option("--dry-run", is_flag=True, help="print the plan and change nothing")
@click.option("--yes", is_flag=True, help="do not ask")
@click.option("--retry-quarantined", is_flag=True, help="deploy a digest that failed on this fleet before")
@as_json
@pass_settings
def deploy(  # noqa: PLR0913, PLR0917 - one parameter per option
    settings: CommandLine,
    channel: str,
    fleet_path: Path,
    dry_run: bool,
    yes: bool,
    retry_quarantined: bool,
    as_json: bool,
) -> None:
    """Roll a fleet over to what stands on a channel: verify, plan, then one instance at a time, and back if one fails.

    A rollout that was killed or paused is gone on with first. Exit 0 done, 1 rolled back or stuck, 6 paused.

    \b
    Example: certify deploy staging --fleet fleet.yaml --dry-run
    """
    from certify.config import load_fleet

    config, plugins = settings.load(), settings.plugins
    fleet = load_fleet(fleet_path, plugins.fleet_settings())
    ledger, driver = _ledger(config), _driver(plugins, fleet, config)
    if dry_run:
        unfinished = ledger.unfinished(fleet.fleet)
        plan = unfinished.plan if unfinished else _plan(config, fleet, channel, driver)
        print_json(plan.to_json()) if as_json else _show(plan)
        return
    ledger.take_lease(fleet.fleet)
    try:
        state = ledger.unfinished(fleet.fleet)
        if state is None:
            state = _begin(config, fleet, channel, driver, ledger, retry_quarantined)
            _confirm(state.plan, yes)
            ledger.start(state)
        else:
            _require_members(state, fleet)
            _require_still_blessed(state, config, channel)
            click.echo(f"going on with rollout {state.id} to {state.plan.release.digest[:19]}", err=as_json)
        state = _carry_out(state, ledger, driver, quiet=as_json)
    finally:
        ledger.give_lease_back(fleet.fleet)
    _report(state, as_json)


def _begin(
    config: Config, fleet: Fleet, channel: str, driver: FleetDriver, ledger: RolloutLedger, retry: bool
) -> Rollout:
    from certify.deploy.rollout import begin
    from certify.ledger.rollouts import new_rollout_id

    plan = _plan(config, fleet, channel, driver)
    reason = ledger.quarantined(fleet.fleet, plan.release.digest)
    if reason and not retry and plan.changes:
        raise RolloutError(
            f"{plan.release.digest} failed on fleet {fleet.fleet} before: {reason}",
            "promote another image, or try it again with --retry-quarantined",
        )
    return begin(new_rollout_id(), plan)


def _require_members(state: Rollout, fleet: Fleet) -> None:
    """A rollout can go on only while fleet.yaml still has every instance it moves."""
    gone = sorted(set(state.phases) - {instance.name for instance in fleet.instances})
    if gone:
        raise RolloutError(
            f"rollout {state.id} is not over, and fleet.yaml no longer has its instance {gone[0]}",
            "put it back until the rollout has ended",
        )


def _require_still_blessed(state: Rollout, config: Config, channel: str) -> None:
    """A rollout goes on only to the channel that is named now, and forward only to what stands there now."""
    from certify.deploy.rollout import Status
    from certify.images.candidate import this_architecture
    from certify.trust.verify import Verifier

    plan = state.plan
    if (plan.channel, plan.product) != (channel, config.product):
        raise RolloutError(
            f"rollout {state.id} of {plan.product} to {plan.channel} is not over, and {channel} is another channel",
            f"end it first: certify deploy {plan.channel} --fleet FILE",
        )
    if Status.ROLLING_BACK in (state.status, state.paused_from):
        return  # on the way back to what served before, which its plan names and the deployer sealed
    pointer = Verifier(config, confirm=confirm_root).channel(channel, this_architecture()).pointer
    release = plan.release
    if (pointer.digest, pointer.config_digest) != (release.digest, release.config_digest):
        raise RolloutError(
            f"rollout {state.id} is to {release.digest}, but {channel} holds {pointer.digest} now",
            f"promote the first again to end the rollout, then the second: certify promote REF --to {channel}",
        )


def _plan(config: Config, fleet: Fleet, channel: str, driver: FleetDriver) -> Plan:
    """Verify first, then observe, then plan."""
    from certify.deploy.plan import make_plan
    from certify.gate.policy import policy_of
    from certify.images.candidate import this_architecture
    from certify.trust.verify import Verifier

    policy_of(config, channel, None)
    if fleet.product not in (None, config.product):
        raise UsageError(
            f"fleet {fleet.fleet} runs {fleet.product}, certify.yaml is about {config.product}", "use its own"
        )
    verified = Verifier(config, confirm=confirm_root).channel(channel, this_architecture())
    running = {instance.name: driver.running(instance.name) for instance in fleet.instances}
    return make_plan(fleet, channel, verified.pointer, running)


def _carry_out(state: Rollout, ledger: RolloutLedger, driver: FleetDriver, *, quiet: bool) -> Rollout:
    from functools import cache

    from certify.cli.context import open_image
    from certify.deploy.executor import Executor

    @cache
    def source() -> object:
        return open_image(state.plan.release.resource_uri)

    def told(action: Action, result: str, detail: str) -> None:
        if quiet or result == "…":
            return
        color = {"ok": "green", "failed": "red"}.get(result, "yellow")
        click.echo(f"  {action.instance:<16} {action.verb:<13} {click.style(f'{result:<8}', fg=color)} {detail}")

    return Executor(ledger, driver, source, told).run(state)  # type: ignore[arg-type]


def _confirm(plan: Plan, yes: bool) -> None:
    if not yes and plan.changes:
        _show(plan)
        if not sys.stdin.isatty():
            raise UsageError("not a terminal, so nobody can be asked", "add --yes, or look first with --dry-run")
        click.confirm("Roll out?", abort=True)


def _show(plan: Plan) -> None:
    click.echo(f"fleet {plan.fleet}: {plan.channel} → {plan.release.digest} (serial {plan.release.serial})")
    for instance in plan.instances:
        now = instance.previous.digest[:19] if instance.previous else "nothing"
        click.echo(f"  {instance.name:<16} {now} {'→ ' + plan.release.digest[:19] if instance.changes else 'stays'}")


def _report(state: Rollout, as_json: bool) -> None:
    if as_json:
        print_json(_described(state))
    else:
        told = f": {state.reason}" if state.reason else ""
        color = "green" if state.status in _YES else "red"
        click.echo(f"{click.style(state.status, fg=color, bold=True)} rollout {state.id}{told}")
        for warning in state.warnings:
            click.echo(f"  warning: {warning}")
        if state.status == "paused":
            click.echo("  run the same command again to go on")
    sys.exit(0 if state.status in _YES else 6 if state.status == "paused" else 1)


@click.group()
def rollout() -> None:
    """See what rollouts did."""


@rollout.command()
@click.argument("rollout_id", metavar="[ID]", required=False)
@as_json
@pass_settings
def status(settings: CommandLine, rollout_id: str | None, as_json: bool) -> None:
    """The latest rollouts, or one with everything it did.

    \b
    Example: certify rollout status
    """
    ledger = _ledger(settings.load())
    states = ledger.all()
    if rollout_id is None:
        if as_json:
            print_json({"rollouts": [_described(state) for state in states]})
        elif states:
            rows = [("ROLLOUT", "FLEET", "CHANNEL", "DIGEST", "STATUS")]
            rows += [(s.id, s.plan.fleet, s.plan.channel, s.plan.release.digest[:19], s.status) for s in states[:20]]
            table(rows)
        else:
            click.echo("no rollout yet")
        return
    found = [state for state in states if state.id == rollout_id]
    if not found:
        raise UsageError(f"no rollout {rollout_id}", "list them: certify rollout status")
    journal = ledger.journal(rollout_id)
    if as_json:
        print_json({**_described(found[0]), "journal": journal})
        return
    _show(found[0].plan)
    for entry in journal:
        if entry["kind"] == "observation":
            action = entry["action"]
            click.echo(
                f"  {entry['at']}  {action['instance']:<16} {action['verb']:<13} {entry['result']:<8} {entry['detail']}"
            )
    click.echo(f"{found[0].status}{': ' + found[0].reason if found[0].reason else ''}")


def _described(state: Rollout) -> dict[str, object]:
    return {
        "id": state.id,
        "status": state.status,
        "reason": state.reason,
        "warnings": list(state.warnings),
        "phases": dict(state.phases),
        "plan": state.plan.to_json(),
    }


def _ledger(config: Config) -> RolloutLedger:
    from certify.ledger.rollouts import RolloutLedger
    from certify.nodes.owner import is_alive, this_process
    from certify.trust.sealed import Seal

    return RolloutLedger(config.state, this_process(), is_alive, Seal(Path(config.trust.keys)))


def _driver(plugins: Plugins, fleet: Fleet, config: Config) -> FleetDriver:
    drivers = plugins.deploy_drivers()
    if fleet.driver not in drivers:
        raise UsageError(f"fleet {fleet.fleet}: no deploy driver {fleet.driver!r}", f"installed: {', '.join(drivers)}")
    return drivers[fleet.driver].bind(fleet, config)


COMMANDS = (deploy, rollout)
