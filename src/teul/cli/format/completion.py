"""Completion scripts for shells, made of the tables of commands and options."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What an argument of a command's usage names, and the command that lists such names.
_LISTS = {
    "CONTAINER": "ps -a --format '{{.Names}}'",
    "IMAGE": "images --format '{{.Repository}}:{{.Tag}}'",
    "NETWORK": "network ls --format '{{.Name}}'",
    "VOLUME": "volume ls -q",
}

_BASH = r"""# Completion of teul for bash, written by `teul completion bash`.
_teul_words() {
    case "$1" in
%(words)s
    esac
}
_teul_names() {
    case "$1" in
%(names)s
    esac
}
_teul() {
    local current="${COMP_WORDS[COMP_CWORD]}" path="" index word
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${COMP_WORDS[index]}"
        if [[ $word != -* && -n $(_teul_words "${path:+$path }$word") ]]; then path="${path:+$path }$word"; else break; fi
    done
    local words="$(_teul_words "$path")"
    if [[ $current != -* ]]; then
        words="$(printf '%%s\n' $words | grep -v '^-')"
        words+=" $(_teul_names "$path" 2>/dev/null)"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then compopt -o default 2>/dev/null; fi
}
complete -F _teul teul
"""


def bash_script(words: Mapping[str, Sequence[str]], usages: Mapping[str, str]) -> str:
    """For bash. `words` are what may follow a path of commands ("", "container", "container ls"); `usages` the usage of each command."""
    listed = "\n".join(f"    '{path}') echo '{' '.join(following)}' ;;" for path, following in words.items())
    names: dict[str, list[str]] = {kind: [] for kind in _LISTS}
    for path, usage in usages.items():
        kind = next((kind for kind in _LISTS if kind in usage), None)
        if kind is not None:
            names[kind].append(f"'{path}'")
    found = "\n".join(f"    {'|'.join(paths)}) teul {_LISTS[kind]} ;;" for kind, paths in names.items() if paths)
    return _BASH % {"words": listed, "names": found}


def zsh_script(words: Mapping[str, Sequence[str]], usages: Mapping[str, str]) -> str:
    """For zsh, which runs what is made for bash."""
    return f"#compdef teul\nautoload -U +X bashcompinit && bashcompinit\n{bash_script(words, usages)}"


def fish_script(words: Mapping[str, Sequence[str]], summaries: Mapping[str, str]) -> str:
    """For fish: each command with its summary, and the options of each."""
    lines = ["complete -c teul -f -n __fish_use_subcommand"]
    for path, following in words.items():
        seen = " ".join(f"; and __fish_seen_subcommand_from {name}" for name in path.split())
        condition = f"not __fish_use_subcommand{seen}" if path else "__fish_use_subcommand"
        for word in following:
            summary = summaries.get(f"{path} {word}".strip(), "").replace("'", "\\'")
            what = f"-l {word[2:]}" if word.startswith("--") else f"-f -a {word}"
            lines.append(f"complete -c teul -n '{condition}' {what}" + (f" -d '{summary}'" if summary else ""))
    return "\n".join(lines) + "\n"
