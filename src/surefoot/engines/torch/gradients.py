"""Gradients on PyTorch: how they are made, prepared and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from surefoot.engines import differentiation, failures
from surefoot.engines.contract import SteppedOptimizer
from surefoot.engines.gradients import GradientEngine
from surefoot.engines.torch.memory import are_plain
from surefoot.rule.update import Array
from surefoot.variables.variable import value_of

_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter, type(None)})


class TorchGradients(GradientEngine):
    """The part of `surefoot.engines.torch.engine` that is about gradients."""

    def gradients(
        self, loss: Callable[[], Any], var_list: Any, grad_loss: Any
    ) -> tuple[list[Any], list[Any]]:
        value = loss()
        variables = differentiation.listed_variables(var_list, (torch.nn.Parameter,))
        if grad_loss is None:
            grad_loss = torch.ones_like(value)
        found = torch.autograd.grad(
            value, [value_of(v) for v in variables], torch.as_tensor(grad_loss), allow_unused=True
        )
        return list(found), variables

    def symbolic_gradients(self, loss: Any, params: list[Any]) -> list[Any]:
        """Differentiate a tensor that still has its autograd graph."""
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            raise RuntimeError(
                "`get_gradients` and `get_updates` need a loss tensor with its autograd graph. "
                "Use `optimizer.minimize(loss_function, variables)`, or `loss.backward()` and "
                f"`apply_gradients`. Received: loss={loss!r}"
            )
        found = torch.autograd.grad(
            loss,
            [value_of(p) for p in params],
            torch.ones_like(loss),
            retain_graph=True,
            allow_unused=True,
        )
        return differentiation.require_all(list(found), params)

    def as_tensors(self, gradients: Iterable[Any]) -> list[Any]:
        gradients = list(gradients)
        return (
            gradients
            if _TENSORS.issuperset(map(type, gradients))
            else (super().as_tensors(gradients))
        )

    def as_tensor(self, gradient: Any) -> Any:
        return gradient if isinstance(gradient, torch.Tensor) else torch.as_tensor(gradient)

    def upcast(self, gradients: list[Any], *, only_special: bool = False) -> list[Any]:
        given = [g for g in gradients if g is not None]
        if are_plain(given, also_narrow=only_special):
            return gradients
        if any(g.device.type != "cpu" for g in given):
            gradients = _wider(gradients)
        return super().upcast(gradients, only_special=only_special)

    def is_dense(self, gradient: Any) -> bool:
        return isinstance(gradient, torch.Tensor) and are_plain([gradient], also_narrow=True)

    def upcast_one(self, gradient: Any) -> Any:
        """Dense, and as it is in memory."""
        gradient = self.as_tensor(gradient)
        if gradient.is_sparse:
            gradient = gradient.to_dense()
        if gradient.dtype.itemsize < 4:
            gradient = gradient.float()
        # Autograd returns tensors whose negation is pending, and zeros without memory.
        if not gradient.is_contiguous() or gradient.is_neg() or gradient._is_zerotensor():
            return gradient.resolve_neg().clone(memory_format=torch.contiguous_format)
        return gradient

    def finite(self, gradients: list[Any]) -> Array:
        """By their largest absolute values, which are NaN if one is."""
        dense = [g.to_dense() if g.is_sparse else g for g in gradients]
        largest = torch._foreach_norm(dense, torch.inf)
        return _together(largest).isfinite()

    def report_nonfinite(self, finite: Array, names: list[str], optimizer_name: str) -> Array:
        """Raise at once."""
        failures.raise_nonfinite(finite.tolist(), names, optimizer_name)
        return finite

    @torch.no_grad()
    def clip(
        self,
        optimizer: SteppedOptimizer,
        gradients: list[Any],
        keras_clip: Callable[[list[Any]], list[Any]],
    ) -> list[Any]:
        """Clip as Keras does, whose bounds are rounded to float32 on PyTorch."""
        if optimizer.clipvalue is not None:
            if optimizer.clips_in_update():
                return gradients
            bound = optimizer.clipvalue
            return [None if g is None else self.clip_values(g, bound) for g in gradients]
        given = [g for g in gradients if g is not None]
        factor: Any
        if optimizer.clipnorm is not None and given:
            factors = _factor(_together(torch._foreach_norm(given)), optimizer.clipnorm).unbind()
            pairs = zip(factors, given, strict=True)
            factor = [f.to(g.device, g.dtype, non_blocking=True) for f, g in pairs]
        elif optimizer.global_clipnorm is not None and given:
            factor = _factor(_total(torch._foreach_norm(given)), optimizer.global_clipnorm)
            if any(g.device != factor.device for g in given):
                factor = [factor.to(g.device, non_blocking=True) for g in given]
        else:
            return gradients
        scaled = iter(torch._foreach_mul(given, factor))
        return [None if g is None else next(scaled) for g in gradients]

    def clip_values(self, gradient: Any, bound: float | None) -> Any:
        return gradient if bound is None else gradient.clamp(-bound, bound)

    @torch.no_grad()
    def global_norm(self, tensors: list[Any]) -> Array:
        dense = [self.as_tensor(t).detach() for t in tensors]
        dense = [t.to_dense() if t.is_sparse else t for t in dense]
        return _total(torch._foreach_norm([t.float() for t in dense]))

    @torch.no_grad()
    def snapshot(self, variables: list[Any]) -> list[Array]:
        """Copies, since a step writes into variables."""
        values = map(self.read, variables)
        return [v.float() if v.element_size() < 4 else v.clone() for v in values]

    @torch.no_grad()
    def distance(self, before: list[Array], variables: list[Any]) -> Array:
        """In the memory of the snapshot."""
        torch._foreach_sub_(before, [self.read(v) for v in variables])
        return self.global_norm(before)


def _wider(tensors: list[Any]) -> list[Any]:
    """Tensors below float32 in float32, all by one operation; others as they are."""
    places = [
        i
        for i, t in enumerate(tensors)
        if t is not None
        and t.layout is torch.strided
        and t.is_floating_point()
        and t.dtype.itemsize < 4
    ]
    narrow = [tensors[i] for i in places]
    wide = [torch.empty(t.shape, dtype=torch.float32, device=t.device) for t in narrow]
    if places:
        torch._foreach_copy_(wide, narrow)
    tensors = list(tensors)
    for i, tensor in zip(places, wide, strict=True):
        tensors[i] = tensor
    return tensors


def _factor(norm: torch.Tensor, bound: float) -> torch.Tensor:
    return bound / norm.clamp(min=bound)


def _together(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Scalars as a vector on the device of the first one."""
    device = values[0].device
    return torch.stack([value.to(device, non_blocking=True) for value in values])


def _total(norms: Sequence[torch.Tensor]) -> torch.Tensor:
    return _together(norms).norm()
