"""supervisord.conf, rendered from programs and the home's templates, and read back by supervisord's own parser."""

from pathlib import Path

import msgspec
import pytest
from fleet_home import ENTRY, FleetHome
from supervisor.options import ServerOptions

from strategy_runner.config.home import Home
from strategy_runner.errors import ConfigurationError
from strategy_runner.supervision.programs import Program, render, write_configuration


def parsed(path: Path) -> ServerOptions:
    options = ServerOptions()
    options.realize(["-c", str(path), "-n"], doc="")
    return options


def test_supervisord_reads_back_every_value_of_a_program(fleet: FleetHome) -> None:
    program = fleet.program("swing_high_v1.BTC-USD", startsecs=2, startretries=7, stopwaitsecs=9)
    options = parsed(write_configuration(fleet.home, [program], python="/usr/bin/python3", entry=ENTRY))
    (group,) = options.process_group_configs
    (process,) = group.process_configs
    assert (group.name, process.name) == ("ikenna", "swing_high_v1.BTC-USD")
    assert process.command == f"/usr/bin/python3 -m {ENTRY} {program.spec}"
    assert (process.startsecs, process.startretries, process.stopwaitsecs) == (2, 7, 9)
    assert process.exitcodes == [0] and process.stopsignal == 15 and process.stdout_logfile is None
    assert process.environment["STRATEGY_RUNNER_SPEC"] == "1"
    assert process.environment["STRATEGY_RUNNER_LOG"] == str(program.log)


def test_hash_seed_blas_threads_and_time_zone_are_pinned_and_a_program_may_add_to_them(fleet: FleetHome) -> None:
    program = msgspec.structs.replace(fleet.program("a"), environment={"MORE": "yes"})
    options = parsed(write_configuration(fleet.home, [program]))
    environment = options.process_group_configs[0].process_configs[0].environment
    assert environment["PYTHONHASHSEED"] == "0"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"
    assert environment["TZ"] == "UTC"
    assert environment["MORE"] == "yes"


def test_a_path_with_spaces_and_percent_signs_survives(fleet: FleetHome) -> None:
    odd = Home(fleet.root / "50% of (it), here")
    odd.root.mkdir()
    fleet.home.templates.rename(odd.templates)
    program = msgspec.structs.replace(fleet.program("a"), spec=odd.root / "a b.json", log=odd.log("ikenna:a"))
    options = parsed(write_configuration(odd, [program], python="/usr/bin/python3"))
    process = options.process_group_configs[0].process_configs[0]
    assert process.command == f"/usr/bin/python3 -m strategy_runner.assembly '{program.spec}'"
    assert process.directory == str(odd.root)
    assert process.environment["STRATEGY_RUNNER_LOG"] == process.stderr_logfile == str(program.log)
    assert options.server_configs[0]["file"] == str(odd.supervisor_socket)


@pytest.mark.parametrize("character", [";", "#", '"', "\n"])
def test_a_character_that_supervisord_cannot_read_back_is_refused(fleet: FleetHome, character: str) -> None:
    program = msgspec.structs.replace(fleet.program("a"), log=Path(f"/tmp/a{character}b.log"))
    with pytest.raises(ConfigurationError, match="expected none of"):
        render(fleet.home, [program])


def test_the_same_worker_name_in_two_groups_is_two_programs(fleet: FleetHome) -> None:
    one, other = fleet.program("x.BTC-USD"), fleet.program("x.BTC-USD", group="odum")
    options = parsed(write_configuration(fleet.home, [one, other]))
    commands = {group.name: group.process_configs[0].command for group in options.process_group_configs}
    assert commands["ikenna"].endswith(str(one.spec)) and commands["odum"].endswith(str(other.spec))


def test_the_same_program_twice_is_refused_by_name(fleet: FleetHome) -> None:
    with pytest.raises(ConfigurationError, match="ikenna:a: expected one program of this name"):
        render(fleet.home, [fleet.program("a"), fleet.program("a")])


def test_the_socket_is_the_owners_alone_and_there_is_no_inet_server(fleet: FleetHome) -> None:
    options = parsed(write_configuration(fleet.home, []))
    (server,) = options.server_configs
    assert server["section"] == "unix_http_server" and server["chmod"] == 0o700


def test_descriptors_grow_with_the_programs(fleet: FleetHome) -> None:
    few = parsed(write_configuration(fleet.home, [])).minfds
    many = parsed(write_configuration(fleet.home, [fleet.program(f"w{number}") for number in range(300)])).minfds
    assert many == few + 3 * 300


def test_the_order_of_the_programs_given_does_not_matter(fleet: FleetHome) -> None:
    programs = [fleet.program("a"), fleet.program("b", group="odum"), fleet.program("r", kind="router")]
    assert render(fleet.home, programs) == render(fleet.home, programs[::-1])


@pytest.mark.parametrize("template", ["base.conf", "group.conf", "program.conf"])
def test_a_missing_template_is_a_configuration_error_that_names_it(fleet: FleetHome, template: str) -> None:
    (fleet.home.templates / template).unlink()
    with pytest.raises(ConfigurationError, match=rf"supervisor/{template}: expected a template .* found no such file"):
        render(fleet.home, [fleet.program("a")])


@pytest.mark.parametrize(("text", "found"), [("$nonsense", "'nonsense'"), ("100 $ ", "Invalid placeholder")])
def test_a_template_with_a_wrong_placeholder_is_a_configuration_error(fleet: FleetHome, text: str, found: str) -> None:
    (fleet.home.templates / "program.conf").write_text(f"[program:x]\ncommand = {text}\n")
    with pytest.raises(ConfigurationError, match=rf"program.conf: expected .*{found}"):
        render(fleet.home, [fleet.program("a")])


def test_a_home_too_deep_for_supervisords_socket_is_refused(fleet: FleetHome) -> None:
    deep = Home(fleet.root / ("d" * 90))
    deep.root.mkdir()
    fleet.home.templates.rename(deep.templates)
    with pytest.raises(ConfigurationError, match="socket path: expected at most 107 bytes"):
        render(deep, [])


def test_a_program_is_frozen_and_names_itself_as_supervisord_does() -> None:
    program = Program(group="g", name="n", kind="feed", spec=Path("s"), digest="d", log=Path("l"))
    assert program.full_name == "g:n"
    with pytest.raises(AttributeError):
        program.name = "other"  # type: ignore[misc]
