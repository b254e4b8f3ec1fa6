"""
Where site-local Twisted plugins are found.

A file in any folder `relay/plugins` on `sys.path` that provides
`relay.interfaces.IPolicyMaker` or `relay.interfaces.IAgentMaker` is seen by
`twisted.plugin.getPlugins`. Those folders have no `__init__.py` of their own.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
