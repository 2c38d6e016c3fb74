"""Settings: where they come from, and what a wrong one says."""

from __future__ import annotations

import json

import pytest

from ops.environment import environment_of
from ops.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path, monkeypatch):
    (tmp_path / "plaudit.toml").write_text('port = 1111\nhost = "0.0.0.0"\nseed = 3\n')
    monkeypatch.setenv("PLAUDIT_PORT", "2222")
    monkeypatch.setenv("PLAUDIT_SEED", "4")
    settings = load_settings(port=3333)
    assert (settings.port, settings.seed, settings.host) == (3333, 4, "0.0.0.0")


def test_a_flag_that_was_not_given_changes_nothing(monkeypatch):
    monkeypatch.setenv("PLAUDIT_PORT", "2222")
    assert load_settings(port=None).port == 2222


def test_a_wrong_value_names_the_field_the_value_and_the_fix(monkeypatch):
    monkeypatch.setenv("PLAUDIT_TRAIN__PPO__CLIP_RANGE", "-0.5")
    with pytest.raises(SettingsError) as error:
        load_settings()
    message = str(error.value)
    assert "train.ppo.clip_range='-0.5'" in message
    assert "greater than 0" in message
    assert "Set PLAUDIT_TRAIN__PPO__CLIP_RANGE" in message


def test_a_misspelt_setting_in_the_file_is_refused(tmp_path):
    (tmp_path / "plaudit.toml").write_text("prot = 8001\n")
    with pytest.raises(SettingsError, match="prot"):
        load_settings()


def test_a_misspelt_nested_setting_is_refused(tmp_path):
    (tmp_path / "plaudit.toml").write_text("[train]\nmin_new_vote = 3\n")
    with pytest.raises(SettingsError, match=r"train\.min_new_vote"):
        load_settings()


def test_a_misspelt_name_is_answered_with_the_nearest_setting(tmp_path, monkeypatch):
    (tmp_path / "plaudit.toml").write_text("[train.ppo]\nkl_coeff = 0.3\n")
    with pytest.raises(SettingsError, match=r"train\.ppo\.kl_coeff: there is no such .* mean train\.ppo\.kl_coef\?"):
        load_settings()
    (tmp_path / "plaudit.toml").write_text("[train\n")
    with pytest.raises(SettingsError, match=r"^plaudit\.toml is no TOML: "):
        load_settings()
    (tmp_path / "plaudit.toml").unlink()
    monkeypatch.setenv("PLAUDIT_PORTT", "1")
    with pytest.raises(SettingsError, match=r"^PLAUDIT_PORTT: there is no such setting; did you mean port\?"):
        load_settings()
    monkeypatch.delenv("PLAUDIT_PORTT")
    monkeypatch.setenv("PLAUDIT_API_KEY", "somebody else's")
    load_settings()


def test_a_rank_vllm_does_not_take_is_refused():
    with pytest.raises(SettingsError, match=r"train\.lora_rank=12: .*vLLM takes one of .*PLAUDIT_TRAIN__LORA_RANK"):
        load_settings(train={"lora_rank": 12})


def test_settings_that_do_not_fit_each_other_are_refused_with_the_fix():
    with pytest.raises(SettingsError, match=r"^train\.lora_rank=32: .*max_lora_rank=16.*PLAUDIT_ENGINE__MAX_LORA_RANK"):
        load_settings(train={"lora_rank": 32})
    with pytest.raises(SettingsError, match=r"^train\.ppo\.samples_per_prompt=1: .*rloo.*to 2 or more\.$"):
        load_settings(train={"algorithm": "rloo", "ppo": {"samples_per_prompt": 1}})


def test_goals_are_weights_by_metric_in_the_environment_and_in_the_file(monkeypatch, tmp_path):
    assert load_settings().train.reward.goals == {}
    (tmp_path / "plaudit.toml").write_text("[train.reward.goals]\nformality = -1\n")
    assert load_settings().train.reward.goals == {"formality": -1.0}
    (tmp_path / "plaudit.toml").unlink()
    monkeypatch.setenv("PLAUDIT_TRAIN__REWARD__GOALS", '{"brevity": 0.5, "formality": -0.25}')
    mine = load_settings()
    assert mine.train.reward.goals == {"brevity": 0.5, "formality": -0.25}
    monkeypatch.delenv("PLAUDIT_TRAIN__REWARD__GOALS")
    monkeypatch.setenv("PLAUDIT_TRAIN", environment_of(mine)["PLAUDIT_TRAIN"])
    assert load_settings().train.reward.goals == mine.train.reward.goals


@pytest.mark.parametrize(
    ("goals", "wrong"),
    [
        ('{"brevity": NaN}', "the weight of 'brevity' is nan: it takes one from -10 to 10"),
        ('{"brevity": -1e999}', "the weight of 'brevity' is -inf: "),
        ('{"brevity": 11}', "the weight of 'brevity' is 11.0: "),
        ('{"": 1}', "'' is no score's metric: "),
        ('{"Brevity": 1}', "'Brevity' is no score's metric: "),
        (json.dumps({f"g{n}": 1 for n in range(9)}), "at most 8 goals, here are 9"),
    ],
)
def test_a_goal_that_cannot_be_is_one_line_that_names_it(monkeypatch, goals, wrong):
    monkeypatch.setenv("PLAUDIT_TRAIN__REWARD__GOALS", goals)
    with pytest.raises(SettingsError) as error:
        load_settings()
    [line] = str(error.value).splitlines()
    assert line.startswith("train.reward.goals={")
    assert wrong in line
    assert "Set PLAUDIT_TRAIN__REWARD__GOALS, " in line


def test_goals_want_an_algorithm_that_has_a_reward():
    with pytest.raises(SettingsError, match=r"^train\.reward\.goals=.*'dpo' has no reward.*ALGORITHM to ppo or rloo"):
        load_settings(train={"algorithm": "dpo", "reward": {"goals": {"brevity": 1.0}}})


def test_a_child_process_sees_exactly_the_settings_of_its_parent(monkeypatch, tmp_path):
    mine = load_settings(data_dir=tmp_path / "here", port=4321, train={"min_new_votes": 7}, secret="s3cret")
    for name, value in environment_of(mine).items():
        if name.startswith("PLAUDIT_"):
            monkeypatch.setenv(name, value)
    theirs = load_settings()
    assert theirs.model_copy(update={"model_cache": None}) == mine.model_copy(update={"data_dir": tmp_path / "here"})
    assert theirs.models_dir == mine.models_dir


def test_no_secret_is_printed():
    assert "s3cret" not in json.dumps(load_settings(secret="s3cret").model_dump(mode="json"))


def test_a_long_data_folder_still_gets_a_socket_path_linux_takes(tmp_path):
    settings = load_settings(data_dir=tmp_path / ("x" * 120))
    assert len(str(settings.engine_socket)) < 108
    assert settings.engine_socket != load_settings(data_dir=tmp_path / ("y" * 120)).engine_socket


def test_a_models_preset_yields_to_the_operators_own_setting(monkeypatch):
    monkeypatch.setenv("PLAUDIT_TRAIN__PPO__STEPS", "3")
    starter, other = load_settings(model="starter"), load_settings(model="some/model")
    assert (load_settings().train.reward.replay, other.train.reward.replay) == (100, 400)
    assert (starter.train.ppo.unlikely_coef, starter.train.ppo.steps) == (10.0, 3)
    assert (other.train.ppo.unlikely_coef, other.sampling.temperature) == (0.0, 0.3)


@pytest.mark.parametrize("said", ["none", "None"])
def test_what_may_be_without_a_value_can_be_set_to_none(monkeypatch, tmp_path, said):
    monkeypatch.setenv("PLAUDIT_TRAIN__PPO__MAX_KL", said)
    monkeypatch.setenv("PLAUDIT_MODEL_CACHE", said)
    monkeypatch.setenv("PLAUDIT_ADMIN_PORT", said)
    monkeypatch.setenv("PLAUDIT_ENGINE_API_KEY", said)
    (tmp_path / "plaudit.toml").write_text('[train]\nmax_nll_rise = "none"\n')
    train = load_settings().train
    assert train.ppo.max_kl is train.max_nll_rise is None
    settings = load_settings()
    assert settings.model_cache is settings.admin_port is settings.engine_api_key is None
    monkeypatch.setenv("PLAUDIT_TRAIN__NICE", said)
    with pytest.raises(SettingsError, match=f"train.nice='{said}'"):
        load_settings()


def test_what_should_be_json_and_is_not_is_named(monkeypatch):
    monkeypatch.setenv("PLAUDIT_TRAIN__REWARD__GOALS", "brevity")
    with pytest.raises(
        SettingsError, match=r"train\.reward\.goals='brevity': not JSON .* Set PLAUDIT_TRAIN__REWARD__GOALS to JSON"
    ):
        load_settings()
