import copy

import torch
from torch import nn

from semisalt.models.ema import Average


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def moved(student: nn.Sequential, step: int) -> dict[str, torch.Tensor]:
    """A step that moves weights and batch statistics; the state afterwards."""
    torch.manual_seed(step + 1)
    student.train()
    student(torch.randn(4, 1, 8, 8))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    return copy.deepcopy(student.state_dict())


def test_average_of_weights_and_batch_statistics_by_its_definition() -> None:
    student = network()
    average = Average(student, 0.6)
    expected = {name: tensor.double() for name, tensor in student.state_dict().items()}
    for step in range(6):
        state = moved(student, step)
        average.follow(student, step)
        decay = min(1 - 1 / (step + 1), 0.6)
        for name, tensor in state.items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
            else:
                expected[name] = tensor.double()
        for name, tensor in average.module.state_dict().items():
            torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert "1.running_mean" in expected
    assert expected["1.running_mean"].abs().sum() > 0


def test_the_first_step_forgets_where_it_began() -> None:
    student = network()
    average = Average(student, 0.99)
    state = moved(student, 0)
    average.follow(student, 0)
    for name, tensor in average.module.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_it_predicts_in_eval_mode_and_is_never_trained() -> None:
    student = network()
    average = Average(student, 0.9)
    student.train()
    average.train()  # as a loop might, which trains whatever it holds
    assert not any(module.training for module in average.module.modules())
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    before = copy.deepcopy(average.module.state_dict())
    average.module(torch.randn(4, 1, 8, 8))
    for name, tensor in average.module.state_dict().items():
        assert torch.equal(tensor, before[name])
