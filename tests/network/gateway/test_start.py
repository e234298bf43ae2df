"""A gateway that can't start says why, and one that stops leaves nothing behind."""

import asyncio
import shutil
import socket
from pathlib import Path

import psutil
import pytest
from fedfabric.gateway import ConfigurationError, GatewayConfiguration, GatewayStartError, running
from fedfabric.tests.network.gateway.house import House


async def beside(house: House, folder: Path, **changes: object) -> GatewayConfiguration:
    """The configuration of one more gateway of Cleveland's, with a port and a folder of its own."""
    settings = {"listen": "127.0.0.1:0", "state": str(folder / "state"), "trainer": {"enabled": False}, **changes}
    return await house.configuration("cleveland", **settings)


async def refusal(configuration: GatewayConfiguration) -> str:
    with pytest.raises((GatewayStartError, ConfigurationError)) as caught:
        async with running(configuration):
            raise AssertionError("it started")
    return str(caught.value)


async def test_a_port_in_use_is_named(house: House, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = await refusal(await beside(house, tmp_path, listen=address))
    assert address in text
    assert "in use" in text


async def test_two_gateways_do_not_share_a_state_folder(house: House, tmp_path: Path) -> None:
    configuration = await beside(house, tmp_path)
    async with running(configuration) as gateway:
        assert gateway.port
        assert "a gateway runs on the state folder" in await refusal(configuration)
    async with running(configuration):
        pass


async def test_a_state_folder_of_another_channel_is_refused(house: House, tmp_path: Path) -> None:
    configuration = await beside(house, tmp_path)
    async with running(configuration) as gateway:
        model = gateway.parts.model
        with model._writer as database:
            database.execute("UPDATE meta SET value = zeroblob(32) WHERE name = 'last_hash'")

    async def go_on() -> None:
        async with running(configuration) as gateway:
            # The channel may stand still: the next block tells.
            await house.mint("tell", house.msp("cleveland"), 1)
            await asyncio.wait_for(gateway.done, 30)

    with pytest.raises(GatewayStartError, match="another channel"):
        await go_on()


async def test_a_state_folder_from_before_the_network_was_made_anew_is_refused(house: House, tmp_path: Path) -> None:
    configuration = await beside(house, tmp_path)
    async with running(configuration) as gateway:
        with gateway.parts.model._writer as database:
            database.execute("UPDATE meta SET value = CAST('1000000' AS BLOB) WHERE name = 'next_block'")
    assert "was made anew" in await refusal(configuration)


async def test_a_journal_that_is_lost_takes_nothing_of_the_lists_with_it(house: House, tmp_path: Path) -> None:
    configuration = await beside(house, tmp_path)
    async with running(configuration) as gateway:
        height = gateway.parts.model.position
    (tmp_path / "state" / "ledger.sqlite").unlink()
    async with running(configuration) as gateway:
        assert gateway.parts.model.position >= height


async def test_a_certificate_of_another_role_is_refused(house: House, tmp_path: Path) -> None:
    steward = await house.network.enrol("cleveland", "steward", role="steward")
    text = await refusal(
        await beside(house, tmp_path, certificate=str(steward.certificate_path), key=str(steward.key_path))
    )
    assert "has the role steward, a gateway's has the role gateway" in text


async def test_files_that_are_not_there_are_named(house: House, tmp_path: Path) -> None:
    text = await refusal(await beside(house, tmp_path, key=str(tmp_path / "no.key")))
    assert "key: " in text
    assert "No such file" in text


async def test_a_state_folder_below_a_plain_file_is_refused(house: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = await refusal(await beside(house, tmp_path, state=str(tmp_path / "file" / "state")))
    assert "can't be used" in text


async def test_a_secret_that_others_may_read_is_refused(house: House, tmp_path: Path) -> None:
    configuration = await beside(house, tmp_path)
    async with running(configuration):
        pass
    (tmp_path / "state" / "storage.key").chmod(0o644)
    assert "chmod 600" in await refusal(configuration)


async def test_a_stopped_gateway_leaves_no_process_and_no_folder_in_memory(house: House, tmp_path: Path) -> None:
    scratch = tmp_path / "memory"
    scratch.mkdir()
    configuration = await beside(house, tmp_path, trainer={"scratch": str(scratch)})
    async with running(configuration) as gateway:
        await gateway.parts.zygote.start()
        pid = gateway.parts.zygote.pid
        assert psutil.pid_exists(pid)
        assert len(list(scratch.iterdir())) == 1
    assert not psutil.pid_exists(pid)
    assert list(scratch.iterdir()) == []
    shutil.rmtree(scratch)


async def test_what_a_killed_gateway_left_in_memory_is_swept(house: House, tmp_path: Path) -> None:
    scratch = tmp_path / "memory"
    scratch.mkdir()
    configuration = await beside(house, tmp_path, trainer={"scratch": str(scratch)})
    async with running(configuration) as gateway:
        left = gateway.parts.scratch.workspace
    (left / "task" / "data").mkdir(parents=True)
    (left / "task" / "data" / "patients.csv").write_text("secret")
    (left / "task" / "data").chmod(0o500)
    async with running(configuration):
        assert not (left / "task").exists()


async def test_figures_are_served_on_loopback(house: House, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = await beside(house, tmp_path, metrics=f"127.0.0.1:{port}")
    async with running(configuration):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
    assert "fedfabric_gateway_block" in text
