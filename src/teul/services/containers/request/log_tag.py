"""The option `tag` of a log: a Go template over what is known of the container. Pure. docker: loggerutils/log_tag.go, loginfo.go."""

from __future__ import annotations

from teul.errors import InvalidParameter
from teul.model.container import Container
from teul.templates.template import Template, TemplateError, parse_template
from teul.wire.jsonlog import format_time

DEFAULT_TAG = "{{.ID}}"


def check_tag(text: str) -> None:
    """Raises InvalidParameter for what is no template."""
    _parse(text)


def render_tag(text: str, container: Container, hostname: str) -> str:
    """What the template says of this container. Raises InvalidParameter."""
    try:
        return _parse(text).render(_Info(container, hostname))
    except TemplateError as error:
        raise InvalidParameter(str(error)) from None


def _parse(text: str) -> Template:
    try:
        return parse_template(text)
    except TemplateError as error:
        raise InvalidParameter(str(error)) from None


class _Info:
    """What a template can ask for, by Docker's names."""

    def __init__(self, container: Container, hostname: str) -> None:
        image_id = container.image_id
        self._fields: dict[str, object] = {
            "ID": container.id[:12],
            "FullID": container.id,
            "Name": container.name,
            "Command": " ".join([container.path, *container.args]),
            "ImageID": image_id.rpartition(":")[2][:12],
            "ImageFullID": image_id,
            "ImageName": container.image_reference,
            "Hostname": hostname,
            "DaemonName": "docker",
            "Config": container.host_config.log_config.config or {},
            "ContainerID": container.id,
            "ContainerName": f"/{container.name}",
            "ContainerEntrypoint": container.path,
            "ContainerArgs": container.args,
            "ContainerImageID": image_id,
            "ContainerImageName": container.image_reference,
            "ContainerCreated": format_time(container.created_at_ns),
            "ContainerEnv": container.config.env or [],
            "ContainerLabels": container.config.labels or {},
        }

    def template_field(self, name: str) -> object:
        """The value of `.name`. Raises TemplateError."""
        try:
            return self._fields[name]
        except KeyError:
            raise TemplateError(
                f'template: log-tag:1:2: executing "log-tag" at <.{name}>: can\'t evaluate field {name} in type *logger.Info'
            ) from None
