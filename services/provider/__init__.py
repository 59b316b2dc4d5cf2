"""The provider adapter: hosted models behind the mesh's one backend contract."""
